/* Disk work on workers: see image.c. */
#ifndef VIC_CONTROL_IMAGE_H
#define VIC_CONTROL_IMAGE_H

#include "ctl.h"
#include "jobs.h"

/* The worker reserved for an image ("" = the blank root), or a new reservation: then CTL_AGAIN.
 * CTL_DONE: '*vm' is connected and waits for work. */
enum ctl_verdict worker_get(struct step *s, const char *image, struct store_vm *vm);
enum ctl_verdict worker_dismiss(struct step *s, const char *image, const char *why);

#endif
