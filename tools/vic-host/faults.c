/* Making faults.  The words of a fault type stand in one table, as an ESXi says them. */
#include "host.h"

static const struct {
    const struct vim_type *type;
    const char *text;
} words[] = {
    {&vim_type_NotAuthenticated, "The session is not authenticated."},
    {&vim_type_InvalidLogin, "Cannot complete login due to an incorrect user name or password."},
    {&vim_type_InvalidState, "The operation is not allowed in the current state."},
    {&vim_type_InvalidPowerState,
     "The attempted operation cannot be performed in the current state."},
    {&vim_type_NotSupported, "The operation is not supported on the object."},
    {&vim_type_NotImplemented, "The operation is not implemented on this host."},
    {&vim_type_NotFound, "The object or item referred to could not be found."},
    {&vim_type_RequestCanceled, "The task was canceled by a user."},
    {&vim_type_InvalidCollectorVersion, "The version is not known to this property collector."},
    {&vim_type_TaskInProgress, "The operation is not allowed in the current state: another task is "
                               "already in progress."},
    {&vim_type_ConcurrentAccess, "The object has been changed concurrently by another user."},
    {&vim_type_ToolsUnavailable, "Cannot complete operation because VMware Tools is not running in "
                                 "this virtual machine."},
    {&vim_type_TooManyDevices, "There are too many devices of this kind."},
    {&vim_type_OutOfBounds, "A specified parameter was out of bounds."},
    {&vim_type_FileNotFound, "File %s was not found"},
    {&vim_type_FileAlreadyExists, "Cannot complete the operation because the file or folder %s "
                                  "already exists"},
    {&vim_type_FileLocked, "Unable to access file %s since it is locked"},
    {&vim_type_CannotDeleteFile, "Cannot delete file %s"},
    {&vim_type_CannotCreateFile, "Cannot create file %s"},
    {&vim_type_CannotAccessFile, "Unable to access file %s"},
    {&vim_type_DirectoryNotEmpty, "The folder %s is not empty"},
    {&vim_type_NoDiskSpace, "Insufficient disk space on datastore for %s"},
    {&vim_type_FileFault, "Error accessing file %s"},
};

static const char *words_of(const struct vim_type *t)
{
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (words[i].type == t)
            return words[i].text;
    return t->name;
}

void *vh_fault_new(struct vh_fault *f, const struct vim_type *t, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    f->detail = vim_new(f->a, t);
    if (!fmt) {
        f->text = words_of(t);
        return f->detail;
    }
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    f->text = arena_strdup(f->a, text);
    return f->detail;
}

bool vh_fault_argument(struct vh_fault *f, const char *property)
{
    VH_FAULT(f, InvalidArgument, "A specified parameter was not correct: %s", property)
        ->invalidProperty = arena_strdup(f->a, property);
    return false;
}

bool vh_fault_not_found(struct vh_fault *f, struct vim_ref ref)
{
    struct vim_ManagedObjectNotFound *d =
        VH_FAULT(f, ManagedObjectNotFound,
                 "The object '%s:%s' has already been deleted or has not been completely created",
                 ref.type ? ref.type : "", ref.value ? ref.value : "");
    d->obj = (struct vim_ref){arena_strdup(f->a, ref.type ? ref.type : "ManagedObject"),
                              arena_strdup(f->a, ref.value ? ref.value : "")};
    return false;
}

bool vh_fault_file(struct vh_fault *f, const struct vim_type *t, const char *file)
{
    const char *template = words_of(t), *mark = strstr(template, "%s");
    struct vim_FileFault *d =
        mark ? vh_fault_new(f, t, "%.*s%s%s", (int)(mark - template), template, file, mark + 2)
             : vh_fault_new(f, t, "%s: %s", template, file);
    d->file = arena_strdup(f->a, file);
    return false;
}

bool vh_fault_err(struct vh_fault *f, const char *file, const struct vic_err *err)
{
    static const struct {
        enum vic_code code;
        const struct vim_type *type;
    } table[] = {
        {VIC_NOT_FOUND, &vim_type_FileNotFound},     {VIC_CONFLICT, &vim_type_FileAlreadyExists},
        {VIC_NO_SPACE, &vim_type_NoDiskSpace},       {VIC_BUSY, &vim_type_FileLocked},
        {VIC_FORBIDDEN, &vim_type_CannotAccessFile},
    };
    for (size_t i = 0; file && i < sizeof table / sizeof table[0]; i++)
        if (table[i].code == err->code)
            return vh_fault_file(f, table[i].type, file);
    VH_FAULT(f, SystemError, "A general system error occurred: %s", err->msg)->reason =
        arena_strdup(f->a, err->msg);
    return false;
}

bool vh_fault_unsupported(struct vh_fault *f)
{
    VH_FAULT(f, NotSupported, NULL);
    return false;
}

struct vim_LocalizedMethodFault *vh_fault_localized(const struct vh_fault *f, struct arena *a)
{
    struct vim_LocalizedMethodFault *l = VIM_NEW(a, LocalizedMethodFault);
    l->fault = (void *)f->detail;
    l->localizedMessage = f->text;
    return l;
}
