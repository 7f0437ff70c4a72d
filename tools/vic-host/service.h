/* ServiceInstance and the managers. */
#ifndef VIC_HOST_SERVICE_H
#define VIC_HOST_SERVICE_H

#include "host.h"

void vh_service_new(struct vh *h);
struct vim_AboutInfo *vh_about(struct arena *a);

#endif
