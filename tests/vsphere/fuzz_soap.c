/* Byte-eater: any text as a request (lenient and strict) and as a reply; what is taken is written
 * and read again, and must come out the same. */
#include <stdlib.h>

#include "vsphere/vim.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void again(struct arena *a, const struct soap_request *q)
{
    AUTO_BUF struct buf one = {0}, two = {0};
    struct soap_request got;
    soap_write_request(&one, q->method, q->params, q->operation_id);
    if (!soap_parse_request(buf_sv(&one), 0, a, &got, NULL))
        abort();
    soap_write_request(&two, got.method, got.params, got.operation_id);
    if (!sv_eq(buf_sv(&one), buf_sv(&two)))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    AUTO_ARENA struct arena a = {0};
    struct soap_request q;
    struct soap_reply r;
    struct vim_any any;
    struct sv text = sv_make(data, size);
    if (soap_parse_request(text, 0, &a, &q, NULL) && q.method)
        again(&a, &q);
    (void)!soap_parse_request(text, SOAP_STRICT, &a, &q, NULL);
    (void)!soap_parse_reply(text, &vim_method_RetrievePropertiesEx, &a, &r, NULL);
    (void)!soap_parse_reply(text, &vim_method_WaitForUpdatesEx, &a, &r, NULL);
    (void)!soap_parse_any(text, &a, &any, NULL);
    return 0;
}
