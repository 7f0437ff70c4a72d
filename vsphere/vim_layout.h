/* How values lie in the generated structs; shared by reader, writer and look-ups. */
#ifndef VIC_VSPHERE_VIM_LAYOUT_H
#define VIC_VSPHERE_VIM_LAYOUT_H

#include "vsphere/soap.h"

size_t vim_item_size(enum vim_kind kind);
struct vim_any vim_load(enum vim_kind kind, const void *type, const void *p);
bool vim_is_absent(const struct vim_any *any); /* NULL text, empty array, unset enum ... */

#endif
