/* The channel's frames, shared by the hub (engine) and the agent (guest).
 *
 * Transport: TCP over IPv6 link-local on the bridge, endpoint fe80::/64 + the first 64 bits of
 * SHA-256(VCH id), port 2377; TLS 1.3 with external PSK (base/tls.h).  PSK identity: "<vm id>/<n>",
 * n = the key's number (1: from the envelope; 2: given in WELCOME, then kept with the spec).
 *
 * Frame: u8 type, u8 flags, u16 zero, u32 stream, u32 length, payload; little-endian, length at
 * most WIRE_MAX_PAYLOAD.  Stream 0 is the connection itself; the hub opens streams with odd
 * numbers, never reused on one connection.  An unknown type with WIRE_F_MUST is an error, without
 * it is ignored.  JSON payloads are one object; unknown members are ignored, so both sides may
 * grow.
 *
 * Envelope (guestinfo, written when the VM is made), keys:
 *   guestinfo.vic.vm        vm id (32 hex digits)
 *   guestinfo.vic.vch       VCH id
 *   guestinfo.vic.key       channel key 1, 64 hex digits
 *   guestinfo.vic.endpoint  "[fe80::...]:2377"
 *   guestinfo.vic.mac       MAC of the control NIC, when it was chosen by us
 * On vic-host the guest reads them by the same text RPC as on ESXi ("info-get KEY" -> "1 VALUE" or
 * "0 No value found"; "info-set KEY VALUE" -> "1 "), one line each on the virtio-serial port named
 * "vic.guestinfo".
 *
 * One connection, in order: guest HELLO, hub WELCOME, then anything.
 *
 * HELLO {"proto":1, "build":"0.1.0", "vm":id, "boot":boot id (uuid of this kernel boot),
 *   "role":"none"|"run"|"worker", "uptime_ms":n,
 *   "run":{"container":id,"seq":n,"rev":store revision of the spec,"phase":"starting"|"running"|
 *          "exited","pid":n,"started_ns":n}  (role run only),
 *   "exit":{... as EXIT}  (when it was not acknowledged yet),
 *   "log_seq": the newest LOG sequence number the guest has made}
 * WELCOME {"proto":1, "time_ns":wall clock, "key":"64 hex" (key 2), "log_seq": newest one stored;
 *   the guest sends again what is newer}
 * CONFIG {"gen":n, "role":"run"|"worker", "spec":{...}|absent, "mac":hex HMAC-SHA256 of the spec's
 *   bytes with the VCH's secret; the guest keeps it beside the spec and never checks it}
 *   -> CONFIG_ACK {"gen":n, "ok":bool, "error":text, "errno":n, "stage":"disk"|"user"|"exec"|...}
 *   For a run the ack comes when spec and key are synced on the disk; the process starts then, and
 *   STATUS tells.
 * STATUS {"seq":n,"phase":"running","pid":n,"started_ns":n} -> STATUS_ACK {"seq":n}
 * EXIT {"container":id,"seq":run seq,"kind":"exited"|"signaled"|"launch-failed","value":n (status,
 *   signal number, or the exit code of a failed launch),"oom":bool,"error":text,"started_ns":n,
 *   "ended_ns":n,"log_seq":n} -> EXIT_ACK {"seq":run seq}.  All LOG frames up to log_seq have been
 *   sent before it on this connection or an earlier one.
 * LOG: u64 seq, i64 unix ns, u8 stream (1 stdout, 2 stderr; a TTY is all 1), u8 flags (1 = the
 *   line goes on in the next entry), bytes (at most 32 KiB) -> LOG_ACK u64 seq: all up to it are
 *   stored.  The guest has at most WIRE_LOG_WINDOW bytes (heads not counted) unacknowledged in
 *   flight; seq grows with each LOG frame of a connection.
 * PING u64 nonce, i64 sender's wall ns -> PONG the same nonce, i64 own wall ns.  Each side pings
 *   after 15 s of silence and gives up after 45 s.
 * SIGNAL {"session":"" (the run) | exec id,"signal":n}; SHUTDOWN {"grace_ms":n,"signal":n}: ends
 *   the run (a worker or an idle guest just powers off).
 * RESIZE on a stream: u16 rows, u16 cols.
 * ERROR {"code":VIC code name,"text":...}: on stream 0 the sender closes the connection after it.
 *
 * Streams: OPEN {"kind":..., ...} -> OPEN_OK {} | OPEN_ERR {"code":name,"error":text,"errno":n,
 *   "stage":text,"exit":126|127 for launches}.  Then DATA: u8 channel, bytes; CREDIT: u8 channel,
 *   u32 bytes more that the sender may send (both sides start with WIRE_CREDIT for each channel);
 *   EOF: u8 channel (half close); CLOSE {"code":0|n...}: the stream's end, from the guest with the
 *   result, from the hub to cancel.  Channels: 0 to the guest, 1 stdout, 2 stderr from it.
 *   kind "stdin": the run's stdin {"rows":n,"cols":n (tty size to set, may be left out)}: any
 * number; bytes are merged; with stdin_once EOF closes it. kind "exec": {"id":exec
 * id,"args":[],"env":[],"cwd":"","user":"","tty":bool,"stdin":bool,
 *     "privileged":bool,"rows":n,"cols":n}; CLOSE {"kind":"exited"|"signaled","value":n}.
 *   kind "job" (workers): {"op":"mkfs","target":n,"label":text} |
 *     {"op":"apply","target":n,"compression":"none"|"gzip"|"zstd","parent":bool} with the layer's
 *     bytes on channel 0 up to EOF; CLOSE {"ok":bool,"error":text,"entry":name of the tar entry at
 *     fault,"code":name,"size":uncompressed bytes,"diff_id":"sha256:..." of the tar stream}.
 *
 * The run's spec (CONFIG.spec), made by control from the container's record:
 *   {"container","name","seq","rev","key":"64 hex, channel key 2","disk":target,"args":[],"env":[],
 *    "cwd","user","group_add":[],"hostname","domainname","tty":bool,"open_stdin":bool,
 *    "stdin_once":bool,"stop_signal":n,"stop_timeout_ms":n,"readonly":bool,"privileged":bool,
 *    "cap_add":[],"cap_drop":[],"no_new_privs":bool,"memory":bytes|0,"cpus_milli":n|0,"pids":n|0,
 *    "shm_size":bytes,"tmpfs":{"path":"options"},"sysctls":{},"ulimits":[{"name","soft","hard"}],
 *    "oom_score_adj":n,"extra_hosts":["name:ip"],"dns":[],"dns_search":[],"dns_options":[],
 *    "rows":n,"cols":n (tty size),"restart":{"name","max"},"init":bool}
 *
 * Threads: pure functions. */
#ifndef VIC_TETHER_WIRE_H
#define VIC_TETHER_WIRE_H

#include "base/buf.h"
#include "base/err.h"

enum {
    WIRE_PROTO = 1,
    WIRE_PORT = 2377,
    WIRE_HEADER = 12,
    WIRE_MAX_PAYLOAD = 65536,
    WIRE_MAX_CONFIG = 65536, /* a spec is one frame; create refuses what would not fit */
    WIRE_CREDIT = 262144,
    WIRE_LOG_WINDOW = 2097152,
    WIRE_MAX_LOG = 32768,
    WIRE_MAX_STREAMS = 1024, /* open at a time on one connection */
    WIRE_PING_MS = 15000,
    WIRE_DEAD_MS = 45000,
};

enum wire_flags { WIRE_F_MUST = 0x80 };

enum wire_type {
    WIRE_HELLO = 1,
    WIRE_WELCOME,
    WIRE_PING,
    WIRE_PONG,
    WIRE_CONFIG,
    WIRE_CONFIG_ACK,
    WIRE_STATUS,
    WIRE_STATUS_ACK,
    WIRE_OPEN,
    WIRE_OPEN_OK,
    WIRE_OPEN_ERR,
    WIRE_DATA,
    WIRE_CREDIT_MORE,
    WIRE_EOF,
    WIRE_CLOSE,
    WIRE_RESIZE,
    WIRE_SIGNAL,
    WIRE_EXIT,
    WIRE_EXIT_ACK,
    WIRE_LOG,
    WIRE_LOG_ACK,
    WIRE_STATS,
    WIRE_SHUTDOWN,
    WIRE_ERROR,
    WIRE_TYPES
};

struct wire_frame {
    enum wire_type type;
    uint8_t flags;
    uint32_t stream;
    struct sv payload;
};

/* Appends one frame; the payload is at most WIRE_MAX_PAYLOAD (else 'out' fails). */
void wire_put(struct buf *out, enum wire_type type, uint32_t stream, struct sv payload);

/* Takes the first frame of 'in'.  '*used' = its size; 0 when more bytes are needed.  The payload
 * borrows from 'in'.  Errors: VIC_PROTOCOL (zero bytes not zero, length over the limit, unknown
 * type that must be understood).  An unknown type that may be ignored comes back with its number.
 */
VIC_CHECK bool wire_take(struct sv in, struct wire_frame *out, size_t *used, struct vic_err *err);

/* The structured payloads; take fails with VIC_PROTOCOL when the payload is too short. */
struct wire_log {
    uint64_t seq;
    int64_t time_ns;
    uint8_t stream, flags;
    struct sv bytes;
};
enum { WIRE_LOG_PARTIAL = 1 };
void wire_put_log(struct buf *out, const struct wire_log *log);
VIC_CHECK bool wire_take_log(struct sv payload, struct wire_log *out, struct vic_err *err);
void wire_put_u64(struct buf *out, enum wire_type type, uint64_t n); /* LOG_ACK */
VIC_CHECK bool wire_take_u64(struct sv payload, uint64_t *n, struct vic_err *err);
void wire_put_ping(struct buf *out, enum wire_type type, uint64_t nonce, int64_t wall_ns);
VIC_CHECK bool wire_take_ping(struct sv payload, uint64_t *nonce, int64_t *wall_ns,
                              struct vic_err *err);
void wire_put_data(struct buf *out, uint32_t stream, uint8_t channel, struct sv bytes);
VIC_CHECK bool wire_take_data(struct sv payload, uint8_t *channel, struct sv *bytes,
                              struct vic_err *err);
void wire_put_credit(struct buf *out, uint32_t stream, uint8_t channel, uint32_t bytes);
VIC_CHECK bool wire_take_credit(struct sv payload, uint8_t *channel, uint32_t *bytes,
                                struct vic_err *err);
void wire_put_eof(struct buf *out, uint32_t stream, uint8_t channel);
void wire_put_resize(struct buf *out, uint32_t stream, uint16_t rows, uint16_t cols);
VIC_CHECK bool wire_take_resize(struct sv payload, uint16_t *rows, uint16_t *cols,
                                struct vic_err *err);

/* The endpoint's link-local address for a VCH id: "fe80::xxxx:xxxx:xxxx:xxxx". */
void wire_endpoint_address(const char *vch_id, char out[64]);
/* PSK identity both ways: "<vm id>/<n>". */
void wire_identity(const char *vm, unsigned n, char out[96]);
bool wire_parse_identity(const char *identity, char vm[65], unsigned *n);

#endif
