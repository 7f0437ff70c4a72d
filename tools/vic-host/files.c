/* FileManager and HostDatastoreBrowser. */
#include <dirent.h>
#include <fcntl.h>
#include <fnmatch.h>

#include "base/mem.h"

#include "disks.h"
#include "files.h"

enum { MAX_RESULTS = 100000, MAX_FOLDERS = 10000 };

/* --- FileManager ------------------------------------------------------------------------------ */

struct file_op {
    struct vh_path from, to;
};

static bool check_path(struct vh_call *c, const char *name, struct vim_ref dc)
{
    struct vh_path p;
    return vh_check_datacenter(c, dc) && vh_path_parse(c->h, name, &p, &c->fault);
}

static bool held(struct vh_job *j, const struct vh_path *p)
{
    mutex_lock(&j->h->lock);
    bool yes = vh_held_below(j->h, p);
    mutex_unlock(&j->h->lock);
    if (yes)
        vh_fault_file(&j->fault, &vim_type_FileLocked, vh_path_text(&j->a, p));
    return yes;
}

static void publish_delete(struct vh_job *j)
{
    struct file_op *op = j->data;
    vh_disk_forget(j->h, &op->from);
}

static bool run_delete(struct vh_job *j)
{
    const struct vim_DeleteDatastoreFile_Task_request *q = j->req;
    struct file_op *op = ARENA_NEW(&j->a, struct file_op);
    j->data = op;
    j->publish = publish_delete;
    if (!vh_path_parse(j->h, q->name, &op->from, &j->fault) || held(j, &op->from))
        return false;
    if (!*op->from.rel)
        return vh_fault_file(&j->fault, &vim_type_CannotDeleteFile, q->name);
    if (!vh_file_exists(&op->from))
        return vh_fault_file(&j->fault, &vim_type_FileNotFound, q->name);
    mutex_lock(&j->h->lock);
    vh_disk_del(j->h, &j->batch, &op->from);
    mutex_unlock(&j->h->lock);
    vh_job_dooms(j, &op->from);
    return true;
}

static bool delete_file(struct vh_call *c)
{
    const struct vim_DeleteDatastoreFile_Task_request *q = c->req;
    return check_path(c, q->name, q->datacenter) && vh_task_start(c, NULL, false, run_delete);
}

static void undo_move(struct vh_job *j)
{
    struct file_op *op = j->data;
    struct vic_err err;
    if (!vh_file_rename(&op->to, &op->from, false, &err))
        log_error(j->h->opt.log, "file.left", KV_S("path", op->to.rel), KV_ERR(&err));
}

/* A disk, or a folder with disks in it, is moved by VirtualDiskManager: here its record would stay
 * behind, and its chain holds paths. */
static bool has_disks(struct vh *h, const struct vh_path *p)
{
    AUTO_BATCH struct state_batch found = {0};
    mutex_lock(&h->lock);
    vh_disk_del(h, &found, p);
    mutex_unlock(&h->lock);
    return found.first != NULL;
}

static bool run_move(struct vh_job *j)
{
    const struct vim_MoveDatastoreFile_Task_request *q = j->req;
    struct file_op *op = ARENA_NEW(&j->a, struct file_op);
    struct vic_err err;
    j->data = op;
    if (!vh_path_parse(j->h, q->sourceName, &op->from, &j->fault) ||
        !vh_path_parse(j->h, q->destinationName, &op->to, &j->fault) || held(j, &op->from) ||
        held(j, &op->to))
        return false;
    if (has_disks(j->h, &op->from) || has_disks(j->h, &op->to))
        return vh_fault_unsupported(&j->fault);
    if (!vh_file_rename(&op->from, &op->to, q->has_force && q->force, &err))
        return vh_job_fail(j, err.code == VIC_CONFLICT ? &op->to : &op->from, &err);
    if (!(q->has_force && q->force)) /* what was replaced cannot come back */
        j->rollback = undo_move;
    return true;
}

static bool move_file(struct vh_call *c)
{
    const struct vim_MoveDatastoreFile_Task_request *q = c->req;
    return check_path(c, q->sourceName, q->sourceDatacenter) &&
           check_path(c, q->destinationName, q->destinationDatacenter) &&
           vh_task_start(c, NULL, false, run_move);
}

static bool run_copy(struct vh_job *j)
{
    const struct vim_CopyDatastoreFile_Task_request *q = j->req;
    struct file_op op;
    struct vic_err err;
    bool force = q->has_force && q->force;
    if (!vh_path_parse(j->h, q->sourceName, &op.from, &j->fault) ||
        !vh_path_parse(j->h, q->destinationName, &op.to, &j->fault) || held(j, &op.from) ||
        held(j, &op.to))
        return false;
    if (vh_dir_exists(&op.from) || has_disks(j->h, &op.to))
        return vh_fault_unsupported(&j->fault);
    if (vh_file_exists(&op.to) && !force)
        return vh_fault_file(&j->fault, &vim_type_FileAlreadyExists, q->destinationName);
    if (!vh_file_exists(&op.to) && !vh_job_makes(j, &op.to))
        return false;
    return vh_file_copy(&op.from, &op.to, force, &err) ? true : vh_job_fail(j, &op.from, &err);
}

static bool copy_file(struct vh_call *c)
{
    const struct vim_CopyDatastoreFile_Task_request *q = c->req;
    return check_path(c, q->sourceName, q->sourceDatacenter) &&
           check_path(c, q->destinationName, q->destinationDatacenter) &&
           vh_task_start(c, NULL, false, run_copy);
}

/* --- HostDatastoreBrowser --------------------------------------------------------------------- */

struct search {
    struct vh_job *j;
    const struct vim_HostDatastoreBrowserSearchSpec *spec; /* or NULL */
    size_t count;
};

/* The type of a file, by its ending; query type and info type. */
static const struct file_kind {
    const char *suffix;
    const struct vim_type *query, *info;
} kinds[] = {
    {".vmdk", &vim_type_VmDiskFileQuery, &vim_type_VmDiskFileInfo},
    {".vmx", &vim_type_VmConfigFileQuery, &vim_type_VmConfigFileInfo},
    {".iso", &vim_type_IsoImageFileQuery, &vim_type_IsoImageFileInfo},
    {".log", &vim_type_VmLogFileQuery, &vim_type_VmLogFileInfo},
    {".nvram", &vim_type_VmNvramFileQuery, &vim_type_VmNvramFileInfo},
    {".flp", &vim_type_FloppyImageFileQuery, &vim_type_FloppyImageFileInfo},
};

static const struct file_kind *kind_of(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        if (sv_ends(sv_of(name), sv_of(kinds[i].suffix)))
            return &kinds[i];
    return NULL;
}

static bool name_matches(const struct search *s, const char *name)
{
    if (!s->spec || !s->spec->matchPattern.n)
        return true;
    int flags =
        s->spec->has_searchCaseInsensitive && !s->spec->searchCaseInsensitive ? 0 : FNM_CASEFOLD;
    for (size_t i = 0; i < s->spec->matchPattern.n; i++)
        if (fnmatch(s->spec->matchPattern.v[i], name, flags) == 0)
            return true;
    return false;
}

static bool kind_matches(const struct search *s, const struct file_kind *kind, bool folder)
{
    if (!s->spec || !s->spec->query.n)
        return true;
    for (size_t i = 0; i < s->spec->query.n; i++) {
        const struct vim_type *want = s->spec->query.v[i]->vim;
        if (want == &vim_type_FileQuery || (folder && want == &vim_type_FolderFileQuery) ||
            (!folder && kind && want == kind->query))
            return true;
    }
    return false;
}

static void disk_details(struct search *s, const struct vh_path *p, struct vim_VmDiskFileInfo *d)
{
    int64_t capacity, used;
    struct vic_err err;
    if (!vmm_disk_info(s->j->h->vmm, vh_path_host(&s->j->a, p), &capacity, &used, &err))
        return;
    d->diskType = "VirtualDiskFlatVer2BackingInfo";
    d->has_capacityKb = true;
    d->capacityKb = capacity / 1024;
    d->has_thin = d->thin = true;
}

static struct vim_FileInfo *describe(struct search *s, const struct vh_path *p,
                                     const struct stat *st)
{
    const struct vim_FileQueryFlags *want = s->spec ? s->spec->details : NULL;
    const struct file_kind *kind = kind_of(p->rel);
    bool folder = S_ISDIR(st->st_mode), typed = kind && want && want->fileType;
    const struct vim_type *t = folder  ? &vim_type_FolderFileInfo
                               : typed ? kind->info
                                       : &vim_type_FileInfo;
    struct vim_FileInfo *info = vim_new(&s->j->a, t);
    info->path = arena_strdup(&s->j->a, vh_path_leaf(p));
    if (want && want->fileSize) {
        info->has_fileSize = true;
        info->fileSize =
            (int64_t)st->st_blocks * 512 < st->st_size ? (int64_t)st->st_blocks * 512 : st->st_size;
        if (!kind || kind->info != &vim_type_VmDiskFileInfo)
            info->fileSize = st->st_size;
    }
    if (want && want->modification) {
        info->has_modification = true;
        info->modification = st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
    }
    if (want && want->fileOwner)
        info->owner = "root";
    if (t == &vim_type_VmDiskFileInfo && s->spec->query.n)
        disk_details(s, p, (void *)info);
    return info;
}

struct names {
    char **v;
    size_t n;
};

static int by_name(const void *x, const void *y)
{
    return strcmp(*(char *const *)x, *(char *const *)y);
}

static bool read_names(struct search *s, const struct vh_path *dir, struct names *out)
{
    struct vic_err err;
    int fd;
    if (!vh_dir_exists(dir))
        return vh_fault_file(&s->j->fault, &vim_type_FileNotFound, vh_path_text(&s->j->a, dir));
    if (!vh_file_open(dir, O_RDONLY | O_DIRECTORY, &fd, &err))
        return vh_job_fail(s->j, dir, &err);
    DIR *d = fdopendir(fd);
    if (!d) {
        close(fd);
        return vh_fault_file(&s->j->fault, &vim_type_CannotAccessFile, dir->rel);
    }
    for (struct dirent *e; (e = readdir(d)) && s->count < MAX_RESULTS;) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") ||
            !strncmp(e->d_name, ".vic-host", 9) || !sv_is_utf8(sv_of(e->d_name)))
            continue;
        VIM_PUSH(&s->j->a, out, arena_strdup(&s->j->a, e->d_name));
        s->count++;
    }
    closedir(d);
    if (out->n)
        qsort(out->v, out->n, sizeof *out->v, by_name);
    return true;
}

typedef VIM_ARRAY_OF(struct vh_path) paths;

/* One folder; its sub-folders are added to 'more' when that is wanted. */
static struct vim_HostDatastoreBrowserSearchResults *
search_dir(struct search *s, const struct vh_path *dir, paths *more)
{
    struct names names = {0};
    struct vim_HostDatastoreBrowserSearchResults *r =
        VIM_NEW(&s->j->a, HostDatastoreBrowserSearchResults);
    if (!read_names(s, dir, &names))
        return NULL;
    r->datastore = vh_ref(&dir->ds->obj);
    r->folderPath =
        arena_printf(&s->j->a, *dir->rel ? "[%s] %s/" : "[%s] %s", dir->ds->obj.name, dir->rel);
    for (size_t i = 0; i < names.n; i++) {
        struct vh_path p;
        struct stat st;
        if (!vh_path_join(dir, names.v[i], &p) || !vh_file_stat(&p, &st))
            continue;
        bool folder = S_ISDIR(st.st_mode);
        if (folder && more && more->n < MAX_FOLDERS)
            VIM_PUSH(&s->j->a, more, p);
        if (name_matches(s, names.v[i]) && kind_matches(s, kind_of(names.v[i]), folder))
            VIM_PUSH(&s->j->a, &r->file, describe(s, &p, &st));
    }
    return r;
}

static bool run_search(struct vh_job *j)
{
    const struct vim_SearchDatastore_Task_request *q = j->req;
    struct search s = {.j = j, .spec = q->searchSpec};
    struct vh_path dir;
    if (!vh_path_parse(j->h, q->datastorePath, &dir, &j->fault))
        return false;
    struct vim_HostDatastoreBrowserSearchResults *r = search_dir(&s, &dir, NULL);
    if (r)
        j->result = VIM_ANY_OBJECT(r);
    return r != NULL;
}

static bool run_search_below(struct vh_job *j)
{
    const struct vim_SearchDatastoreSubFolders_Task_request *q = j->req;
    struct search s = {.j = j, .spec = q->searchSpec};
    VIM_ARRAY_OF(struct vim_HostDatastoreBrowserSearchResults *) all = {0};
    paths todo = {0};
    struct vh_path dir;
    if (!vh_path_parse(j->h, q->datastorePath, &dir, &j->fault))
        return false;
    VIM_PUSH(&j->a, &todo, dir);
    for (size_t i = 0; i < todo.n; i++) {
        dir = todo.v[i];
        struct vim_HostDatastoreBrowserSearchResults *r = search_dir(&s, &dir, &todo);
        if (!r)
            return false;
        VIM_PUSH(&j->a, &all, r);
    }
    j->result = VIM_ANY_OBJECTS(HostDatastoreBrowserSearchResults, &all);
    return true;
}

static bool search(struct vh_call *c)
{
    const struct vim_SearchDatastore_Task_request *q = c->req;
    struct vh_path p;
    return vh_path_parse(c->h, q->datastorePath, &p, &c->fault) &&
           vh_task_start(c, NULL, false, run_search);
}

static bool search_below(struct vh_call *c)
{
    const struct vim_SearchDatastoreSubFolders_Task_request *q = c->req;
    struct vh_path p;
    return vh_path_parse(c->h, q->datastorePath, &p, &c->fault) &&
           vh_task_start(c, NULL, false, run_search_below);
}

static bool refresh(struct vh_call *c)
{
    vh_touch(c->h, c->o); /* the summary is read anew each time */
    return true;
}

const struct vh_method vh_methods_file[] = {
    {&vim_method_DeleteDatastoreFile_Task, delete_file, 0},
    {&vim_method_MoveDatastoreFile_Task, move_file, 0},
    {&vim_method_CopyDatastoreFile_Task, copy_file, 0},
    {&vim_method_SearchDatastore_Task, search, 0},
    {&vim_method_SearchDatastoreSubFolders_Task, search_below, 0},
    {&vim_method_RefreshDatastore, refresh, 0},
    {&vim_method_RefreshDatastoreStorageInfo, refresh, 0},
    {0},
};
