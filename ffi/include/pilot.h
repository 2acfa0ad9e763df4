/* libpilot: a Pilot node for C programs. C99 and C++11.
 *
 * A stream is a file descriptor: read, write, poll, shutdown and close it like any socket. Strings are UTF-8 and
 * NUL-terminated. Functions that return int give a value >= 0, or a negative PILOT_E_ code with its text in *error
 * (which may be NULL). All functions may be called from any thread; a pilot_node may be used by several threads at once.
 */
#ifndef PILOT_H
#define PILOT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pilot_node pilot_node;

/* Stable codes. */
#define PILOT_E_INTERNAL (-1)
#define PILOT_E_INVALID (-2)
#define PILOT_E_NOT_RUNNING (-3)
#define PILOT_E_NOT_FOUND (-4)
#define PILOT_E_NOT_TRUSTED (-5)
#define PILOT_E_TIMEOUT (-6)
#define PILOT_E_UNREACHABLE (-7)
#define PILOT_E_CONFLICT (-8)
#define PILOT_E_REFUSED (-9)
#define PILOT_E_RESET (-10)
#define PILOT_E_FULL (-11)

/* What went wrong; owned by the caller, always NUL-terminated. */
typedef struct pilot_error {
  int code;
  char message[256];
  char hint[128];
} pilot_error;

/* What a node is started with. Set struct_size to sizeof(pilot_config), everything else may be zero. */
typedef struct pilot_config {
  size_t struct_size;
  const char *home;       /* folder for identity and database; required */
  const char *hostname;   /* hostname to register, or NULL */
  const char *rendezvous; /* KEY@host:port, or NULL for none */
  int services;           /* not 0: answer on ports 7, 1000 and 1001 as the daemon does */
} pilot_config;

/* Version of the library; static. */
const char *pilot_version(void);

/* Starts a node in this process. Blocks until it serves. Free with pilot_node_free. NULL on failure:
 * PILOT_E_INVALID, PILOT_E_CONFLICT (the folder is in use), PILOT_E_INTERNAL. */
pilot_node *pilot_node_start(const pilot_config *config, pilot_error *error);

/* Uses the daemon that serves this Unix socket (NULL: where it usually is). Free with pilot_node_free. NULL on failure:
 * PILOT_E_NOT_RUNNING. */
pilot_node *pilot_attach(const char *socket, pilot_error *error);

/* Ends a node that was started here, in order; its streams end with it. NULL is allowed. No other thread may be inside a
 * call with this node, and it must not be used afterwards. */
void pilot_node_free(pilot_node *node);

/* Opens a stream to a trusted peer and gives its descriptor, which the caller closes. Blocks at most timeout_ms
 * (negative: the node's own limit). PILOT_E_NOT_TRUSTED, PILOT_E_NOT_FOUND, PILOT_E_REFUSED, PILOT_E_TIMEOUT,
 * PILOT_E_UNREACHABLE. */
int pilot_connect(pilot_node *node, const char *peer, uint16_t port, int timeout_ms, pilot_error *error);

/* Waits for the next stream on a port and gives its descriptor, which the caller closes. Blocks at most timeout_ms
 * (negative: for ever). The port is bound while the call waits. PILOT_E_CONFLICT, PILOT_E_TIMEOUT. */
int pilot_accept(pilot_node *node, uint16_t port, int timeout_ms, pilot_error *error);

/* Runs one operation, given as JSON: {"op":"info"}, {"op":"handshake","node":"worker-node"}, {"op":"approve","node":...},
 * {"op":"send_message","node":...,"type":"json"} with its bytes in data, and the others of the daemon. Writes at most
 * answer_len bytes of the JSON answer, NUL-terminated, and gives its full length. data may be NULL when data_len is 0,
 * answer when answer_len is 0. */
int pilot_call(pilot_node *node, const char *operation, const void *data, size_t data_len, char *answer, size_t answer_len,
               pilot_error *error);

#ifdef __cplusplus
}
#endif

#endif
