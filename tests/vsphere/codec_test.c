/* The vim25 codec: what is written is read back equal, in the schema's order, with subtypes, any
 * values and faults; and hostile text is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "vsphere/vim.h"

#define XSI "xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\""

static const char head[] = "<Envelope xmlns=\"http://schemas.xmlsoap.org/soap/envelope/\"><Body>";
static const char tail[] = "</Body></Envelope>";

static char *message(struct arena *a, const char *body)
{
    return arena_printf(a, "%s%s%s", head, body, tail);
}

static bool parse(struct arena *a, const char *body, unsigned flags, struct soap_request *out,
                  struct vic_err *err)
{
    return soap_parse_request(sv_of(message(a, body)), flags, a, out, err);
}

static struct vim_CreateVM_Task_request *create_vm(struct arena *a)
{
    struct vim_CreateVM_Task_request *q = VIM_NEW(a, CreateVM_Task_request);
    q->self = (struct vim_ref){"Folder", "ha-folder-vm"};
    q->pool = (struct vim_ref){"ResourcePool", "ha-root-pool"};
    q->config = VIM_NEW(a, VirtualMachineConfigSpec);
    q->config->name = "a <b> & \"c\"\n\xc3\xa9";
    q->config->has_numCPUs = true;
    q->config->numCPUs = 2;
    struct vim_VirtualDisk *disk = VIM_NEW(a, VirtualDisk);
    disk->key = -1;
    disk->has_unitNumber = true;
    struct vim_VirtualDiskFlatVer2BackingInfo *backing = VIM_NEW(a, VirtualDiskFlatVer2BackingInfo);
    backing->fileName = "[ds] x.vmdk";
    backing->diskMode = "independent_persistent";
    disk->backing = VIM_BASE(VirtualDeviceBackingInfo, backing);
    struct vim_VirtualDeviceConfigSpec *change = VIM_NEW(a, VirtualDeviceConfigSpec);
    change->operation = vim_VirtualDeviceConfigSpecOperation_add;
    change->device = VIM_BASE(VirtualDevice, disk);
    VIM_PUSH(a, &q->config->deviceChange, change);
    for (int i = 0; i < 9; i++) {
        struct vim_OptionValue *extra = VIM_NEW(a, OptionValue);
        extra->key = arena_printf(a, "guestinfo.k%d", i);
        extra->value = i ? VIM_ANY_STRING(arena_printf(a, "v%d", i)) : VIM_ANY_LONG(1LL << 40);
        VIM_PUSH(a, &q->config->extraConfig, extra);
    }
    return q;
}

static void test_request_round_trip(void **state)
{
    (void)state;
    AUTO_ARENA struct arena a = {0};
    AUTO_BUF struct buf one = {0}, two = {0};
    struct vic_err err;
    soap_write_request(&one, &vim_method_CreateVM_Task, create_vm(&a), "op-1");
    struct soap_request got;
    assert_true(soap_parse_request(buf_sv(&one), SOAP_STRICT, &a, &got, &err));
    assert_ptr_equal(got.method, &vim_method_CreateVM_Task);
    assert_string_equal(got.operation_id, "op-1");
    assert_string_equal(got.self.value, "ha-folder-vm");
    const struct vim_CreateVM_Task_request *q = got.params;
    assert_string_equal(q->config->name, "a <b> & \"c\"\n\xc3\xa9");
    assert_int_equal(q->config->extraConfig.n, 9);
    assert_int_equal(q->config->extraConfig.v[0]->value.i, 1LL << 40);
    const struct vim_VirtualDisk *disk =
        VIM_CAST(VirtualDisk, q->config->deviceChange.v[0]->device);
    assert_non_null(disk);
    assert_true(disk->has_unitNumber);
    assert_false(disk->has_controllerKey);
    assert_true(VIM_IS(VirtualDiskFlatVer2BackingInfo, disk->backing));
    assert_false(VIM_IS(VirtualDiskSeSparseBackingInfo, disk->backing));
    soap_write_request(&two, got.method, got.params, "op-1");
    assert_string_equal(buf_str(&one), buf_str(&two));
}

/* Base fields come before own ones, whatever the order of assignment. */
static void test_order(void **state)
{
    (void)state;
    AUTO_ARENA struct arena a = {0};
    AUTO_BUF struct buf out = {0};
    soap_write_request(&out, &vim_method_CreateVM_Task, create_vm(&a), NULL);
    static const char *const order[] = {
        "<_this",      "<config>",     "<name>",        "<numCPUs>",    "<deviceChange",
        "<operation>", "<device ",     "<key>",         "<backing ",    "<fileName>",
        "<diskMode>",  "<unitNumber>", "<capacityInKB", "<extraConfig", "<pool "};
    const char *at = buf_str(&out);
    for (size_t i = 0; i < ARRAY_LEN(order); i++) {
        at = strstr(at, order[i]);
        if (!at)
            fail_msg("%s is missing or out of order", order[i]);
    }
    assert_non_null(strstr(buf_str(&out), "<device xsi:type=\"VirtualDisk\">"));
    assert_non_null(strstr(buf_str(&out), "<value xsi:type=\"xsd:string\">"));
}

static void any_round_trip(struct arena *a, struct vim_any any, struct vim_any *got)
{
    AUTO_BUF struct buf one = {0}, two = {0};
    struct vic_err err = {0};
    soap_write_any(&one, "val", &any);
    if (!soap_parse_any(buf_sv(&one), a, got, &err))
        fail_msg("%s: %s", buf_str(&one), err.msg);
    soap_write_any(&two, "val", got);
    assert_string_equal(buf_str(&one), buf_str(&two));
}

static void test_any(void **state)
{
    (void)state;
    AUTO_ARENA struct arena a = {0};
    struct vim_any got;
    any_round_trip(&a, VIM_ANY_BOOL(true), &got);
    assert_true(got.kind == VIM_BOOL && got.b);
    any_round_trip(&a, VIM_ANY_INT(-5), &got);
    assert_true(got.kind == VIM_INT && got.i == -5);
    any_round_trip(&a, VIM_ANY_STRING(""), &got);
    assert_true(got.kind == VIM_STRING && !*got.s);
    any_round_trip(&a, VIM_ANY_REF(((struct vim_ref){"Task", "task-1"})), &got);
    assert_true(got.kind == VIM_REF && strcmp(got.ref.type, "Task") == 0);
    any_round_trip(
        &a, VIM_ANY_ENUM(VirtualMachinePowerState, vim_VirtualMachinePowerState_poweredOn), &got);
    assert_int_equal(got.e, vim_VirtualMachinePowerState_poweredOn);
    any_round_trip(&a, (struct vim_any){.kind = VIM_TIME, .i = 1700000000123456000}, &got);
    assert_int_equal(got.i, 1700000000123456000);
    any_round_trip(&a, (struct vim_any){.kind = VIM_DOUBLE, .d = 0.1}, &got);
    assert_true(got.d == 0.1);
    any_round_trip(&a, (struct vim_any){.kind = VIM_BINARY, .binary = SV("\0\1\xff")}, &got);
    assert_int_equal(got.binary.len, 3);
    any_round_trip(&a, VIM_ANY_OBJECTS(OptionValue, &create_vm(&a)->config->extraConfig), &got);
    assert_true(got.array && got.items.n == 9 && got.type == &vim_type_OptionValue);
    const char *texts[] = {"a", "b"};
    any_round_trip(&a, (struct vim_any){.kind = VIM_STRING, .array = true, .items = {texts, 2}},
                   &got);
    assert_string_equal(((const char **)got.items.v)[1], "b");
    any_round_trip(&a, (struct vim_any){.kind = VIM_REF, .array = true}, &got);
    assert_true(got.array && got.items.n == 0 && got.kind == VIM_REF);
    struct vim_DynamicProperty *empty = VIM_NEW(&a, DynamicProperty);
    empty->name = "recentTask";
    empty->val = (struct vim_any){.kind = VIM_REF, .array = true};
    any_round_trip(&a, VIM_ANY_OBJECT(empty), &got);
    assert_true(VIM_CAST(DynamicProperty, got.object)->val.array);
}

/* govmomi's way: no xsd prefix declared, its own prefix for xsi, declared on each element. */
static void test_govmomi_dialect(void **state)
{
    (void)state;
    AUTO_ARENA struct arena a = {0};
    struct soap_request got;
    struct vic_err err;
    assert_true(parse(&a,
                      "<UpdateOptions xmlns=\"urn:vim25\"><_this type=\"OptionManager\">x</_this>"
                      "<changedValue xmlns:XMLSchema-instance=\"http://www.w3.org/2001/"
                      "XMLSchema-instance\" XMLSchema-instance:type=\"OptionValue\"><key>k</key>"
                      "<value xmlns:_i=\"http://www.w3.org/2001/XMLSchema-instance\" "
                      "_i:type=\"xsd:int\">7</value></changedValue></UpdateOptions>",
                      SOAP_STRICT, &got, &err));
    const struct vim_UpdateOptions_request *q = got.params;
    assert_int_equal(q->changedValue.v[0]->value.kind, VIM_INT);
    assert_int_equal(q->changedValue.v[0]->value.i, 7);
}

static void test_newer_peer(void **state)
{
    (void)state;
    AUTO_ARENA struct arena a = {0};
    struct vim_any got;
    struct vic_err err;
    const char *text = "<a " XSI "><v xsi:type=\"VirtualDisk\"><key>5</key><numaNode>1</numaNode>"
                       "<backing xsi:type=\"vim25:VirtualDiskFutureBackingInfo\"><new><x/></new>"
                       "</backing><capacityInKB>9</capacityInKB></v></a>";
    assert_true(soap_parse_any(sv_of(text), &a, &got, &err));
    const struct vim_VirtualDisk *disk = VIM_CAST(VirtualDisk, got.object);
    assert_int_equal(disk->capacityInKB, 9);
    assert_ptr_equal(disk->backing->vim, &vim_type_VirtualDeviceBackingInfo);
    text = "<a " XSI "><v xsi:type=\"ArrayOfFuture\"><Future/></v></a>";
    assert_true(soap_parse_any(sv_of(text), &a, &got, &err));
    assert_int_equal(got.kind, VIM_NONE);
    assert_string_equal(got.unknown, "ArrayOfFuture");
    text = "<a " XSI "><v xsi:type=\"VirtualMachinePowerState\">levitating</v></a>";
    assert_true(soap_parse_any(sv_of(text), &a, &got, &err));
    assert_int_equal(got.e, VIM_ENUM_OTHER);
    struct soap_request q;
    assert_true(parse(&a, "<FlyAway xmlns=\"urn:vim25\"><x/><_this type=\"T\">1</_this></FlyAway>",
                      0, &q, &err));
    assert_null(q.method);
    assert_string_equal(q.name, "FlyAway");
    assert_string_equal(q.self.value, "1");
}

static void test_strict(void **state)
{
    (void)state;
    AUTO_ARENA struct arena a = {0};
    struct soap_request q;
    struct vic_err err;
    const char *swapped = "<Login xmlns=\"urn:vim25\"><_this type=\"SessionManager\">s</_this>"
                          "<password>p</password><userName>u</userName></Login>";
    assert_true(parse(&a, swapped, 0, &q, &err));
    assert_false(parse(&a, swapped, SOAP_STRICT, &q, &err));
    assert_non_null(strstr(err.msg, "userName is out of order"));
    const char *missing = "<Login xmlns=\"urn:vim25\"><_this type=\"SessionManager\">s</_this>"
                          "<userName>u</userName></Login>";
    assert_false(parse(&a, missing, SOAP_STRICT, &q, &err));
    assert_non_null(strstr(err.msg, "password"));
}

static void test_fault(void **state)
{
    (void)state;
    AUTO_ARENA struct arena a = {0};
    AUTO_BUF struct buf out = {0};
    struct vic_err err;
    struct vim_InvalidPowerState f = {.vim = &vim_type_InvalidPowerState,
                                      .existingState = vim_VirtualMachinePowerState_poweredOff};
    soap_write_fault(&out, "no <power>", &f);
    struct soap_reply reply;
    assert_true(soap_parse_reply(buf_sv(&out), &vim_method_PowerOffVM_Task, &a, &reply, &err));
    assert_true(reply.is_fault);
    assert_string_equal(reply.fault.type, "InvalidPowerState");
    assert_string_equal(reply.fault.text, "no <power>");
    const struct vim_InvalidPowerState *got = VIM_CAST(InvalidPowerState, reply.fault.detail);
    assert_int_equal(got->existingState, vim_VirtualMachinePowerState_poweredOff);
    assert_true(VIM_IS(MethodFault, got));
    char *unknown = message(&a, "<s:Fault xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\">"
                                "<faultcode>c</faultcode><faultstring>t</faultstring><detail>"
                                "<NewFault " XSI " xsi:type=\"New\"><y>1</y></NewFault></detail>"
                                "</s:Fault>");
    assert_true(soap_parse_reply(sv_of(unknown), &vim_method_PowerOffVM_Task, &a, &reply, &err));
    assert_string_equal(reply.fault.type, "New");
    assert_ptr_equal(reply.fault.detail->vim, &vim_type_MethodFault);
}

static void test_localized_fault(void **state)
{
    (void)state;
    AUTO_ARENA struct arena a = {0};
    struct vim_any got;
    struct vim_TaskInfo *info = VIM_NEW(&a, TaskInfo);
    info->state = vim_TaskInfoState_error;
    info->error = VIM_NEW(&a, LocalizedMethodFault);
    info->error->localizedMessage = "gone";
    struct vim_FileNotFound *f = VIM_NEW(&a, FileNotFound);
    f->file = "[ds] x";
    info->error->fault = VIM_BASE(MethodFault, f);
    any_round_trip(&a, VIM_ANY_OBJECT(info), &got);
    const struct vim_TaskInfo *back = VIM_CAST(TaskInfo, got.object);
    assert_string_equal(VIM_CAST(FileNotFound, back->error->fault)->file, "[ds] x");
}

static void test_bad_text_is_replaced(void **state)
{
    (void)state;
    AUTO_ARENA struct arena a = {0};
    struct vim_any any = VIM_ANY_STRING("a\x01"
                                        "b\xff"
                                        "c\xed\xa0\x80"),
                   got;
    AUTO_BUF struct buf out = {0};
    struct vic_err err;
    soap_write_any(&out, "v", &any);
    assert_true(soap_parse_any(buf_sv(&out), &a, &got, &err));
    assert_int_equal(strncmp(got.s,
                             "a\xef\xbf\xbd"
                             "b\xef\xbf\xbd"
                             "c\xef\xbf\xbd",
                             12),
                     0);
}

static void test_path(void **state)
{
    (void)state;
    AUTO_ARENA struct arena a = {0};
    struct vim_CreateVM_Task_request *q = create_vm(&a);
    struct vim_any root = VIM_ANY_OBJECT(q->config), got;
    assert_true(vim_path(root, SV("numCPUs"), &got));
    assert_int_equal(got.i, 2);
    assert_true(vim_path(root, SV("extraConfig[\"guestinfo.k3\"].value"), &got));
    assert_string_equal(got.s, "v3");
    assert_true(vim_path(root, SV("extraConfig[\"nope\"].value"), &got));
    assert_int_equal(got.kind, VIM_NONE);
    assert_true(vim_path(root, SV("files.vmPathName"), &got));
    assert_int_equal(got.kind, VIM_NONE);
    assert_false(vim_path(root, SV("nothing"), &got));
    assert_false(vim_path(root, SV("extraConfig[\"x"), &got));
    assert_false(vim_path(root, SV("extraConfig.key"), &got));
}

static void test_hostile(void **state)
{
    (void)state;
    AUTO_ARENA struct arena a = {0};
    static const char *const bad[] = {
        "",
        "x",
        "<a>",
        "<Envelope/>",
        "<Envelope xmlns=\"http://schemas.xmlsoap.org/soap/envelope/\"/>",
        "<Envelope xmlns=\"http://schemas.xmlsoap.org/soap/envelope/\"><Body/></Envelope>",
        "<!DOCTYPE a [<!ENTITY b \"bbbbb\">]><Envelope "
        "xmlns=\"http://schemas.xmlsoap.org/soap/envelope/\"><Body><Logout>&b;</Logout></Body>"
        "</Envelope>",
        "<!DOCTYPE a SYSTEM \"file:///etc/passwd\"><a/>",
    };
    struct soap_request q;
    struct vic_err err;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        if (soap_parse_request(sv_of(bad[i]), 0, &a, &q, &err))
            fail_msg("taken: %s", bad[i]);
    assert_false(parse(&a, "<Login><userName>a</userName>", 0, &q, &err));
    assert_false(parse(&a, "<CurrentTime><_this>&x;</_this></CurrentTime>", 0, &q, &err));
    assert_false(parse(&a, "<TerminateVM></TerminateVM></Body></Envelope><x/>", 0, &q, &err));
    assert_false(parse(&a,
                       "<EnterMaintenanceMode_Task><timeout>99999999999</timeout>"
                       "</EnterMaintenanceMode_Task>",
                       0, &q, &err));
    assert_non_null(strstr(err.msg, "timeout"));
}

static void test_bounds(void **state)
{
    (void)state;
    AUTO_ARENA struct arena a = {0};
    AUTO_BUF struct buf deep = {0}, wide = {0};
    struct soap_request q;
    struct vic_err err;
    buf_add_str(&deep, head);
    for (int i = 0; i < 200; i++)
        buf_add_str(&deep, "<a>");
    assert_false(soap_parse_request(buf_sv(&deep), 0, &a, &q, &err));
    assert_int_equal(err.code, VIC_TOO_LARGE);
    buf_add_str(&wide, head);
    buf_add_str(&wide, "<ReconfigVM_Task><spec>");
    for (int i = 0; i < 100000; i++)
        buf_add_str(&wide, "<vcpuConfig/>");
    buf_add_str(&wide, "<deviceChange><device " XSI " xsi:type=\"VirtualDisk\">");
    buf_add_str(&wide, "</device></deviceChange></spec></ReconfigVM_Task>");
    buf_add_str(&wide, tail);
    (void)!soap_parse_request(buf_sv(&wide), 0, &a, &q, &err);
    assert_true(a.total < wide.len * 33 + (2 << 20));
}

static void test_tables(void **state)
{
    (void)state;
    assert_ptr_equal(vim_find_type(SV("VirtualDisk")), &vim_type_VirtualDisk);
    assert_null(vim_find_type(SV("VirtualDis")));
    for (size_t i = 0; i < vim_types_count; i++)
        assert_ptr_equal(vim_find_type(sv_of(vim_types[i]->name)), vim_types[i]);
    for (size_t i = 0; i < vim_methods_count; i++)
        assert_ptr_equal(vim_find_method(sv_of(vim_methods[i]->name)), vim_methods[i]);
    assert_true(vim_managed_is(&vim_managed_VirtualMachine, &vim_managed_ManagedEntity));
    const struct vim_property *p = vim_find_property(&vim_managed_VirtualMachine, SV("name"));
    assert_int_equal(p->kind, VIM_STRING);
    p = vim_find_property(&vim_managed_ClusterComputeResource, SV("actionHistory"));
    assert_int_equal(p->kind, VIM_NONE);
    assert_string_equal(vim_method_DisableMethods.ns, "urn:internalvim25");
    assert_true(vim_method_CreateVM_Task.task);
    assert_string_equal(vim_method_PowerOnVM_Task.privilege, "VirtualMachine.Interact.PowerOn");
}

/* Every type: an object with every field set survives, so each descriptor fits its struct. */
static void test_every_type(void **state)
{
    (void)state;
    for (size_t i = 0; i < vim_types_count; i++) {
        AUTO_ARENA struct arena a = {0};
        struct vim_object *o = vim_new(&a, vim_types[i]);
        for (const struct vim_type *t = vim_types[i]; t; t = t->base)
            for (unsigned f = 0; f < t->field_count; f++) {
                assert_true(t->fields[f].offset < vim_types[i]->size);
                if (t->fields[f].has)
                    *((char *)o + t->fields[f].has) = 1;
                else if (t->fields[f].kind == VIM_STRING && !(t->fields[f].flags & VIM_ARRAY))
                    *(const char **)(void *)((char *)o + t->fields[f].offset) = t->fields[f].name;
            }
        struct vim_any got;
        any_round_trip(&a, VIM_ANY_OBJECT(o), &got);
        assert_ptr_equal(got.object->vim, vim_types[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request_round_trip),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_any),
        cmocka_unit_test(test_govmomi_dialect),
        cmocka_unit_test(test_newer_peer),
        cmocka_unit_test(test_strict),
        cmocka_unit_test(test_fault),
        cmocka_unit_test(test_localized_fault),
        cmocka_unit_test(test_bad_text_is_replaced),
        cmocka_unit_test(test_path),
        cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_tables),
        cmocka_unit_test(test_every_type),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
