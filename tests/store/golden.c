/* What lies in the golden stores: see golden.h. */
#include "golden.h"

#include "base/mem.h"

static void fill(const struct store_rec *rec, struct arena *a, void *record);

static void fill_list(const struct store_field *f, struct arena *a, void *at)
{
    struct {
        void *v;
        size_t n;
    } *l = at;
    const struct store_rec *rec = f->rec();
    l->v = arena_alloc(a, rec->size);
    l->n = 1;
    fill(rec, a, l->v);
}

static void fill_field(const struct store_field *f, struct arena *a, void *at)
{
    const char *text = arena_printf(a, "%s-%u", f->name, f->number);
    switch (f->kind) {
    case STORE_STR:
        *(const char **)at = text;
        break;
    case STORE_BOOL:
        *(bool *)at = true;
        break;
    case STORE_I32:
        *(int32_t *)at = -(int32_t)f->number;
        break;
    case STORE_U32:
        *(uint32_t *)at = f->number;
        break;
    case STORE_I64:
        *(int64_t *)at = -(int64_t)f->number * 1000000007;
        break;
    case STORE_U64:
        *(uint64_t *)at = (uint64_t)f->number * 1000000007;
        break;
    case STORE_TIME:
        *(int64_t *)at = GOLDEN_TIME + f->number;
        break;
    case STORE_ENUM:
        *(unsigned *)at = 1;
        break;
    case STORE_BYTES:
        *(struct sv *)at = sv_of(text);
        break;
    case STORE_STRS:
        *(struct store_strs *)at = (struct store_strs){arena_copy(a, &text, sizeof text), 1};
        break;
    case STORE_MAP: {
        struct store_kv kv = {f->name, text};
        *(struct store_map *)at = (struct store_map){arena_copy(a, &kv, sizeof kv), 1};
        break;
    }
    case STORE_OBJ:
        fill(f->rec(), a, at);
        break;
    case STORE_LIST:
        fill_list(f, a, at);
        break;
    }
}

static void fill(const struct store_rec *rec, struct arena *a, void *record)
{
    store_init(rec, record);
    for (size_t i = 0; i < rec->count; i++)
        fill_field(&rec->fields[i], a, (char *)record + rec->fields[i].offset);
}

void golden_record(enum store_kind kind, struct arena *a, void *record)
{
    static const char *const self[] = {GOLDEN_ID};
    fill(store_kind_rec(kind), a, record);
    struct store_meta *m = record;
    m->id = GOLDEN_ID;
    m->name = GOLDEN_ID;
    m->revision = 0;
    m->deleted = 0;
    if (kind == STORE_CONTAINER) {
        ((struct store_container *)record)->image = GOLDEN_ID;
        ((struct store_container *)record)->disk = GOLDEN_ID;
    } else if (kind == STORE_IMAGE) {
        ((struct store_image *)record)->layers.v = arena_copy(a, self, sizeof self);
    } else if (kind == STORE_TAG) {
        ((struct store_tag *)record)->image = GOLDEN_ID;
    } else if (kind == STORE_LAYER) {
        ((struct store_layer *)record)->parent = "";
        ((struct store_layer *)record)->disk = GOLDEN_ID;
    } else if (kind == STORE_DISK) {
        ((struct store_disk *)record)->parent = "";
        ((struct store_disk *)record)->holder = GOLDEN_ID;
    }
}

/* --- fingerprint ---------------------------------------------------------------------------------
 */
static const char *const kinds[] = {
    [STORE_STR] = "STR",     [STORE_BOOL] = "BOOL", [STORE_I32] = "I32",   [STORE_U32] = "U32",
    [STORE_I64] = "I64",     [STORE_U64] = "U64",   [STORE_TIME] = "TIME", [STORE_ENUM] = "ENUM",
    [STORE_BYTES] = "BYTES", [STORE_STRS] = "STRS", [STORE_MAP] = "MAP",   [STORE_OBJ] = "OBJ",
    [STORE_LIST] = "LIST",
};

static void print_record(const struct store_rec *rec, struct buf *out)
{
    for (size_t i = 0; i < rec->count; i++) {
        const struct store_field *f = &rec->fields[i];
        buf_addf(out, "%s %u %s %s%s", rec->name, f->number, f->name, kinds[f->kind],
                 f->flags & STORE_F_SECRET ? " secret" : "");
        if (f->rec)
            buf_addf(out, " %s", f->rec()->name);
        for (unsigned v = 0; f->enum_text && f->enum_text(v); v++)
            buf_addf(out, " %s", f->enum_text(v));
        buf_add_c(out, '\n');
    }
}

void golden_fingerprint(struct buf *out)
{
#define REC(name, meaning) print_record(store_rec_##name(), out);
#define F(...)
#define END(name)
#include "store/record.def"
#undef REC
#undef F
#undef END
    for (enum store_kind k = 1; k < STORE_KINDS; k++)
        buf_addf(out, "kind %d %s\n", (int)k, store_kind_name(k));
}
