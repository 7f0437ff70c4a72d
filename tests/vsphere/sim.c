#include "sim.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/proc.h"

/* Reads the first line, "URL THUMBPRINT". */
static void read_line(int fd, char *line, size_t size)
{
    size_t len = 0;
    ssize_t got;
    while (len + 1 < size && (got = read(fd, line + len, 1)) == 1 && line[len] != '\n')
        len++;
    line[len] = 0;
}

/* Starts a child; its first line goes to 'line'. */
static void start(struct sim *s, const char *const *argv, char *line, size_t size)
{
    int in[2], out[2];
    struct vic_err err;
    assert_int_equal(pipe(in), 0);
    assert_int_equal(pipe(out), 0);
    struct proc_spec spec = {.argv = argv,
                             .stdin_fd = in[0],
                             .stdout_fd = out[1],
                             .stderr_fd = STDERR_FILENO,
                             .die_with_parent = true};
    s->stdin_fd = in[1];
    if (!proc_spawn(&spec, &s->pid, &err))
        fail_msg("start %s: %s", argv[0], err.msg);
    close(in[0]);
    close(out[1]);
    read_line(out[0], line, size);
    close(out[0]);
}

static void start_vcsim(struct sim *s)
{
    char line[256];
    const char *argv[] = {VIC_VCSIM, s->kind == SIM_ESX ? "-esx" : "-esx=false", NULL};
    start(s, argv, line, sizeof line);
    snprintf(s->password, sizeof s->password, "secret");
    if (sscanf(line, "%127s %95s", s->url, s->thumbprint) != 2)
        fail_msg("%s said '%s'", VIC_VCSIM, line);
}

#ifdef VIC_HOST_BIN
static void start_host(struct sim *s)
{
    char line[256], address[100], path[128];
    snprintf(s->state, sizeof s->state, "/tmp/vic-host-XXXXXX");
    assert_non_null(mkdtemp(s->state));
    const char *argv[] = {VIC_HOST_BIN, "--state-dir", s->state, "--listen", "tcp:127.0.0.1:0",
                          "--strict",   "--log-level", "error",  NULL};
    start(s, argv, line, sizeof line);
    if (sscanf(line, "vic-host: listening on tcp:%99s thumbprint %95s", address, s->thumbprint) !=
        2)
        fail_msg("vic-host said '%s'", line);
    snprintf(s->url, sizeof s->url, "https://%s", address);
    snprintf(path, sizeof path, "%s/password", s->state);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%63s", s->password), 1);
    fclose(f);
}
#endif

void sim_start(struct sim *s, enum sim_kind kind)
{
    *s = (struct sim){.kind = kind, .stdin_fd = -1};
#ifdef VIC_HOST_BIN
    if (kind == SIM_HOST) {
        start_host(s);
        return;
    }
#endif
    start_vcsim(s);
}

void sim_stop(struct sim *s)
{
    struct vic_err err;
    int status;
    close(s->stdin_fd); /* ends the simulator */
    if (s->kind == SIM_HOST)
        kill(s->pid, SIGTERM);
    if (!proc_wait(s->pid, 10000, &status, &err)) {
        kill(s->pid, SIGKILL);
        (void)!proc_wait(s->pid, 10000, &status, &err);
    }
    if (s->kind == SIM_HOST) {
        const char *argv[] = {"rm", "-rf", s->state, NULL};
        (void)!proc_run(argv, (struct sv){0}, NULL, 10000, &err);
    }
}

/* With VIC_RECORD_DIR, every exchange is kept there as NNNN-Method.req.xml and .res.xml, for
 * wire_test.py. */
static void record(void *arg, const char *method, struct sv request, struct sv reply)
{
    static atomic_uint count;
    const char *dir = getenv("VIC_RECORD_DIR");
    unsigned n = atomic_fetch_add(&count, 1);
    (void)arg;
    for (int i = 0; i < 2; i++) {
        char path[512];
        struct sv text = i ? reply : request;
        snprintf(path, sizeof path, "%s/%04u-%s.%s.xml", dir, n, method, i ? "res" : "req");
        FILE *f = fopen(path, "w");
        assert_non_null(f);
        assert_int_equal(fwrite(text.p, 1, text.len, f), text.len);
        fclose(f);
    }
}

struct vsp_options sim_options(const struct sim *s)
{
    return (struct vsp_options){.url = s->url,
                                .user = "root",
                                .password = s->password,
                                .thumbprint = s->thumbprint,
                                .record = getenv("VIC_RECORD_DIR") ? record : NULL};
}

struct vsp_place_names sim_names(const struct sim *s)
{
    if (s->kind == SIM_ESX)
        return (struct vsp_place_names){0};
    if (s->kind == SIM_HOST)
        return (struct vsp_place_names){.network = "VM Network"};
    return (struct vsp_place_names){.compute = "DC0_H0", .network = "VM Network"};
}
