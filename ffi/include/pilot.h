/* libpilot: a Pilot node for C programs. C99 and C++11. Made from the library's sources: do not edit.
 *
 * Functions that give an int, an int64_t or a pilot_handle give a value >= 0, or a negative PILOT_E_ code with its text in
 * *error, which may be NULL. Every function may be called from any thread, and a handle may be used by several threads at
 * once. Strings are UTF-8 and NUL-terminated; nothing that is handed in is kept after the call. Time limits are in
 * milliseconds: 0 does not wait, a negative one waits for ever. A handle that was closed, or is of another kind, is an error.
 *
 * A stream is a file descriptor (pilot_connect, pilot_accept), or a handle that moves bytes without the kernel
 * (pilot_stream_connect, pilot_stream_accept). After fork() the child has the descriptors; the library is the parent's.
 */

#ifndef PILOT_H
#define PILOT_H

#include <stddef.h>
#include <stdint.h>

/*
 The library or the node failed inside.
 */
#define PILOT_E_INTERNAL -1

/*
 An argument makes no sense: NULL, not UTF-8, too long, malformed.
 */
#define PILOT_E_INVALID -2

/*
 No daemon answers, or the node has ended.
 */
#define PILOT_E_NOT_RUNNING -3

/*
 No such node, message or file.
 */
#define PILOT_E_NOT_FOUND -4

/*
 The owners of this node and of the peer have not approved each other.
 */
#define PILOT_E_NOT_TRUSTED -5

/*
 The time limit has passed.
 */
#define PILOT_E_TIMEOUT -6

/*
 The peer cannot be reached.
 */
#define PILOT_E_UNREACHABLE -7

/*
 A name or port is taken, or a folder is in use.
 */
#define PILOT_E_CONFLICT -8

/*
 No program listens on the peer's port, or the port is not granted.
 */
#define PILOT_E_REFUSED -9

/*
 The stream broke.
 */
#define PILOT_E_RESET -10

/*
 A table, queue, buffer or disk is full, or no descriptors are left.
 */
#define PILOT_E_FULL -11

/*
 The call would have to wait, and its time limit is 0.
 */
#define PILOT_E_WOULD_BLOCK -12

/*
 The handle is closed or unknown.
 */
#define PILOT_E_CLOSED -13

/*
 The handle is of another kind.
 */
#define PILOT_E_WRONG_KIND -14

/*
 This process was forked from the one that uses the library.
 */
#define PILOT_E_FORKED -15

/*
 A node asks for trust: pilot_approve, pilot_reject.
 */
#define PILOT_EVENT_TRUST_REQUEST 1

/*
 A node is trusted from now on.
 */
#define PILOT_EVENT_TRUSTED 2

/*
 A node has declined our request.
 */
#define PILOT_EVENT_TRUST_REJECTED 3

/*
 Trust with a node has ended.
 */
#define PILOT_EVENT_UNTRUSTED 4

/*
 A tunnel with a peer stands.
 */
#define PILOT_EVENT_PEER_UP 5

/*
 A tunnel has ended; its "reason" is in detail.
 */
#define PILOT_EVENT_PEER_DOWN 6

/*
 A peer is reached on another "path" than "from", for the "reason" (one word); or, without these two, with datagrams of another
 size.
 */
#define PILOT_EVENT_PATH 7

/*
 A message is in the inbox; its "id" is in detail.
 */
#define PILOT_EVENT_MESSAGE 8

/*
 A file has arrived; its "path" is in detail.
 */
#define PILOT_EVENT_FILE 9

/*
 An event was published on this node's event stream; its "topic" is in detail.
 */
#define PILOT_EVENT_PUBLISHED 10

/*
 Events were lost because the program took them too slowly; their "count" is in detail.
 */
#define PILOT_EVENT_MISSED 11

/*
 What a trusted peer and this node may reach at each other has changed, or the peer's name; the "reason" is in detail.
 */
#define PILOT_EVENT_TRUST_CHANGED 12

/*
 A message has left the outbox without being delivered; its "message_id" and the "reason" are in detail.
 */
#define PILOT_EVENT_GIVEN_UP 13

/*
 A question is in the inbox; its "id" there is in detail: pilot_next_question, pilot_reply.
 */
#define PILOT_EVENT_QUESTION 14

/*
 An answer has come; the id of its question is "reply_to" in detail: pilot_wait_answer.
 */
#define PILOT_EVENT_ANSWER 15

/*
 The members of a group of this node have changed: the "group", its "id", and how many "members" it has.
 */
#define PILOT_EVENT_GROUP 16

/*
 Something that the owner should know; the "reason" (such as "invite_dead", "over_used", "clock_skew") and a "text" are in detail.
 */
#define PILOT_EVENT_WARNING 17

/*
 A capture of this node's inner packets has begun or ended; the "state" is in detail.
 */
#define PILOT_EVENT_CAPTURE 18

/*
 Founds a group, with this node as its first admin.
 */
#define PILOT_GROUP_CREATE 1

/*
 Says what members may reach at this node.
 */
#define PILOT_GROUP_ALLOW 2

/*
 Removes a member.
 */
#define PILOT_GROUP_REMOVE 3

/*
 Leaves the group.
 */
#define PILOT_GROUP_LEAVE 4

/*
 Renews the term of a member.
 */
#define PILOT_GROUP_RENEW 5

/*
 Makes a member an admin, or an admin a member.
 */
#define PILOT_GROUP_ROLE 6

/*
 Gives the group another key.
 */
#define PILOT_GROUP_REKEY 7

/*
 Most bytes of early data, which travel with the request for a stream (pilot_connect_with). Unit: bytes.
 */
#define PILOT_FIRST_MAX 1024

/*
 Type of a message: text.
 */
#define PILOT_TEXT 1

/*
 Type of a message: any bytes.
 */
#define PILOT_BINARY 2

/*
 Type of a message: JSON, which is checked before it is sent.
 */
#define PILOT_JSON 3

/*
 Flag of pilot_expose: the program speaks HTTP/1 and is told the peer in headers.
 */
#define PILOT_HTTP 1

/*
 Flag of pilot_expose, with PILOT_HTTP: an A2A agent's card names the address that its caller used.
 */
#define PILOT_A2A 2

/*
 Flag of pilot_expose: the program is told the peer by the PROXY protocol, version 2.
 */
#define PILOT_PROXY_PROTOCOL 4

/*
 Room for the id of a question: 32 hexadecimal digits and a NUL.
 */
#define PILOT_QUESTION_ID_SIZE 33

/*
 Ends reading: bytes that arrive are dropped.
 */
#define PILOT_SHUT_READ 0

/*
 Ends writing: the peer reads the end after all written bytes.
 */
#define PILOT_SHUT_WRITE 1

/*
 Ends both directions.
 */
#define PILOT_SHUT_BOTH 2

/*
 Value of pilot_stream_end: the stream has not ended.
 */
#define PILOT_STREAM_OPEN 1

/*
 Handle of a node, stream, listener, watch or connect under way. Handles are positive numbers and never used again. Close
 each one once with pilot_close.
 */
typedef int64_t pilot_handle;

/*
 The reason of a failure; owned by the caller. Set struct_size to sizeof(pilot_error) before the call. A call that fails
 writes the other fields; a call that succeeds leaves them as they are.
 */
typedef struct pilot_error {
  /*
   sizeof(pilot_error).
   */
  size_t struct_size;
  /*
   A PILOT_E_ code.
   */
  int code;
  /*
   The reason; UTF-8, always NUL-terminated.
   */
  char message[256];
  /*
   Advice for the next step, or empty; UTF-8, always NUL-terminated.
   */
  char hint[128];
} pilot_error;

/*
 A node's address, a port there, and the node's hostname. Set struct_size to sizeof(pilot_peer).
 */
typedef struct pilot_peer {
  /*
   sizeof(pilot_peer).
   */
  size_t struct_size;
  /*
   Network part of the address; 0 is the common network.
   */
  uint16_t network;
  /*
   Port; 0 where there is none.
   */
  uint16_t port;
  /*
   Node part of the address.
   */
  uint32_t node;
  /*
   Hostname, or empty when unknown; NUL-terminated.
   */
  char hostname[64];
} pilot_peer;

/*
 An event of a node. Set struct_size to sizeof(pilot_event), and payload and payload_size to a buffer or to zero.
 */
typedef struct pilot_event {
  /*
   sizeof(pilot_event).
   */
  size_t struct_size;
  /*
   Buffer for the bytes of a published event, or NULL.
   */
  uint8_t *payload;
  /*
   Length of the buffer. Unit: bytes.
   */
  size_t payload_size;
  /*
   Length of the published bytes. Unit: bytes, at most 1048576.
   */
  size_t payload_len;
  /*
   A PILOT_EVENT_ constant; 0: an event of a later version.
   */
  int kind;
  /*
   The node that the event is about.
   */
  struct pilot_peer peer;
  /*
   The whole event as a JSON object; NUL-terminated; cut when it is longer.
   */
  char detail[1024];
} pilot_event;

/*
 Settings of a node. Set struct_size to sizeof(pilot_config); every other field but home may be zero.
 */
typedef struct pilot_config {
  /*
   sizeof(pilot_config).
   */
  size_t struct_size;
  /*
   Folder for identity and books, made when it is missing; one node at a time uses it. Required.
   */
  const char *home;
  /*
   Hostname to register: 1-63 characters of a-z 0-9 -; NULL: the one registered before, if any.
   */
  const char *hostname;
  /*
   KEY@host:port; NULL: none, only peers known from before are reached, at their last addresses.
   */
  const char *rendezvous;
  /*
   Unix socket to serve for other programs, as a daemon does; NULL: none.
   */
  const char *socket;
  /*
   ADDRESS:PORT to bind for UDP; NULL: every address, any port.
   */
  const char *listen;
  /*
   Longest ring of a stream in each direction. Unit: bytes. 0: 33554432. For small devices 262144 or less.
   */
  size_t stream_ring_len_max;
  /*
   Not 0: the node answers on ports 7 (echo), 1000 (text), 1001 (messages, files) and 1002 (events), as the daemon does.
   */
  int services;
} pilot_config;

/*
 A message in the inbox. Set struct_size to sizeof(pilot_message).
 */
typedef struct pilot_message {
  /*
   sizeof(pilot_message).
   */
  size_t struct_size;
  /*
   Number of the message; grows with every message.
   */
  uint64_t id;
  /*
   Time of arrival. Unit: seconds since 1970.
   */
  uint64_t received_at;
  /*
   Length of the body. Unit: bytes, at most 16777216.
   */
  size_t len;
  /*
   PILOT_TEXT, PILOT_BINARY or PILOT_JSON.
   */
  int kind;
  /*
   The node that sent the message.
   */
  struct pilot_peer from;
} pilot_message;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/*
 Opens a port for datagrams (0: any free one) and returns its descriptor. The caller closes the descriptor, which frees the
 port. The descriptor is a SOCK_SEQPACKET socket, blocking, close-on-exec, for poll, pilot_datagram_send and
 pilot_datagram_recv. (Systems without such sockets, as macOS, have a SOCK_STREAM socket, on which each packet follows its
 length of two bytes, the high one first; the two functions know that.) *port_out (or NULL) gets the port. A peer reaches
 the port when it was granted the port, or has been sent a datagram from it.
 Any thread. PILOT_E_CONFLICT (the port is bound), PILOT_E_FULL.
 */
int pilot_datagram_open(pilot_handle node,
                        uint16_t port,
                        uint16_t *port_out,
                        struct pilot_error *error);

/*
 Sends a datagram to the address and port in *to. Datagrams may be lost, and one too long for the path is lost: 1100 bytes
 always fit; the node finds paths that carry more while streams move data. Blocks as the descriptor says, which is rare.
 Returns 0.
 Any thread. PILOT_E_INVALID, PILOT_E_WOULD_BLOCK (a non-blocking descriptor), PILOT_E_CLOSED (no descriptor),
 PILOT_E_RESET (the node has ended).
 */
int pilot_datagram_send(int fd,
                        const struct pilot_peer *to,
                        const uint8_t *data,
                        size_t len,
                        struct pilot_error *error);

/*
 Takes the next datagram and returns its length; a datagram longer than the buffer is cut off. *from (or NULL) gets its
 sender (without hostname). Blocks as the descriptor says.
 Any thread. PILOT_E_WOULD_BLOCK (a non-blocking descriptor), PILOT_E_CLOSED (no descriptor), PILOT_E_NOT_RUNNING (the node
 has ended).
 */
int64_t pilot_datagram_recv(int fd,
                            struct pilot_peer *from,
                            uint8_t *buffer,
                            size_t len,
                            struct pilot_error *error);

/*
 Returns the version of the library; static, never NULL.
 */
const char *pilot_version(void);

/*
 Returns the name of a code, for logs: "PILOT_E_TIMEOUT"; "PILOT_E_UNKNOWN" for an unknown code. Static, never NULL.
 */
const char *pilot_code_name(int code);

/*
 Watches a node's events from now on and returns a handle for pilot_next_event. topics: events published on this node's
 event stream are included when their topic is equal to topics, or begins with the part before a final *; NULL: none of
 them.
 Any thread. PILOT_E_NOT_RUNNING.
 */
pilot_handle pilot_watch(pilot_handle node, const char *topics, struct pilot_error *error);

/*
 Returns a descriptor that is readable when pilot_next_event may have an event: call that until PILOT_E_WOULD_BLOCK. The
 descriptor belongs to the handle.
 */
int pilot_event_fd(pilot_handle watch, struct pilot_error *error);

/*
 Takes the next event. Waits at most timeout_ms (0: not at all; negative: for ever). Any thread. Returns 0.
 PILOT_E_WOULD_BLOCK, PILOT_E_TIMEOUT, PILOT_E_FULL (payload_size is below payload_len, which is set; the event stays),
 PILOT_E_CLOSED, PILOT_E_NOT_RUNNING.
 */
int pilot_next_event(pilot_handle watch, struct pilot_event *event, int timeout_ms, struct pilot_error *error);

/*
 Founds or changes a group; members with a tunnel hear of it at once. act: PILOT_GROUP_CREATE to PILOT_GROUP_REKEY. member: of
 PILOT_GROUP_REMOVE, PILOT_GROUP_RENEW and PILOT_GROUP_ROLE the member; of PILOT_GROUP_REKEY the admins that stay, with commas
 between, or NULL. ports: of PILOT_GROUP_CREATE and PILOT_GROUP_ALLOW what members may reach here, "none" too; NULL: as
 configured. role: "admin" or "member": of PILOT_GROUP_ROLE what the member becomes, of PILOT_GROUP_ALLOW for whom the ports are
 (NULL: members). Other acts take NULL for what they do not need.
 Any thread; blocks until that is on the disk. PILOT_E_NOT_FOUND (no such group or member), PILOT_E_NOT_TRUSTED (this node is no admin,
 or has not the group key), PILOT_E_CONFLICT (a group has the name), PILOT_E_INVALID, PILOT_E_FULL.
 */
int pilot_group(pilot_handle node,
                int act_of_group,
                const char *group,
                const char *member,
                const char *ports,
                const char *role,
                struct pilot_error *error);

/*
 Makes a code by which `uses` other nodes (1 to 1000; 0: 50) become members of a group: pilot_join. The code can be used for
 expires_s seconds (0: seven days, at most 30). offline: 0, or 1 for a code that any member answers while no admin is online, which
 needs the group key. Writes at most code_len bytes of the code, NUL-terminated, and returns its full length; 2048 bytes hold any.
 Any holder of the code may join, so keep it secret. Any thread; blocks until the invite is on the disk. PILOT_E_NOT_FOUND,
 PILOT_E_NOT_TRUSTED (this node is no admin, or has not the group key), PILOT_E_INVALID, PILOT_E_FULL, PILOT_E_UNREACHABLE (no way
 leads to this node).
 */
int64_t pilot_group_invite(pilot_handle node,
                           const char *group,
                           int offline,
                           uint16_t uses,
                           uint64_t expires_s,
                           char *code,
                           size_t code_len,
                           struct pilot_error *error);

/*
 Opens a stream to a port of a trusted peer (hostname, address, node number, key or fingerprint) and returns its
 descriptor, which the caller closes: a Unix socket, blocking, close-on-exec, for read, write, poll, shutdown, sendfile and
 close. It ends as a TCP socket does: reading gives 0 after the peer's orderly end; a stream that broke fails reading with
 ECONNRESET, once, and writing with EPIPE; closing sends what was written and the end (FIN), or, with bytes unread, a reset.
 (Only Linux has ECONNRESET for reading, while at most 4096 bytes are written at a time: pilot_stream_end always tells how a
 stream ended.) *at (or NULL) gets the other end.
 Any thread; blocks at most timeout_ms (negative: the node's own limit, 30 s).
 PILOT_E_NOT_TRUSTED, PILOT_E_NOT_FOUND, PILOT_E_REFUSED, PILOT_E_TIMEOUT, PILOT_E_UNREACHABLE, PILOT_E_FULL.
 */
int pilot_connect(pilot_handle node,
                  const char *peer,
                  uint16_t port,
                  int timeout_ms,
                  struct pilot_peer *at,
                  struct pilot_error *error);

/*
 Opens a stream as pilot_connect does, with early data: at most PILOT_FIRST_MAX bytes that travel with the request for the
 stream and are read first, so that a question and its answer take one round trip instead of two. A peer that refuses the
 stream never sees the bytes. When the peer restarts meanwhile, the stream ends with an error: the process before may have
 read the bytes, so the process after does not get them.
 Any thread; blocks as pilot_connect. PILOT_E_INVALID (too many bytes); otherwise as pilot_connect.
 */
int pilot_connect_with(pilot_handle node,
                       const char *peer,
                       uint16_t port,
                       const uint8_t *first,
                       size_t first_len,
                       int timeout_ms,
                       struct pilot_peer *at,
                       struct pilot_error *error);

/*
 Starts a connect without waiting and returns its handle. Poll pilot_connect_fd for reading, then call
 pilot_connect_finish; pilot_close gives the connect up. Any thread; does not wait for the network.
 */
pilot_handle pilot_connect_start(pilot_handle node, const char *peer, uint16_t port, struct pilot_error *error);

/*
 Starts a connect with early data, as pilot_connect_with and pilot_connect_start do.
 */
pilot_handle pilot_connect_start_with(pilot_handle node,
                                      const char *peer,
                                      uint16_t port,
                                      const uint8_t *first,
                                      size_t first_len,
                                      struct pilot_error *error);

/*
 Returns a descriptor that is readable when pilot_connect_finish has an outcome. The descriptor belongs to the handle.
 */
int pilot_connect_fd(pilot_handle connect, struct pilot_error *error);

/*
 Returns the outcome of a connect: the stream's descriptor as pilot_connect returns it, once, or the failure. Close the
 handle in any case. Waits at most timeout_ms (0: not at all; negative: until the outcome is known). Any thread.
 PILOT_E_WOULD_BLOCK or PILOT_E_TIMEOUT: not known yet; otherwise as pilot_connect.
 */
int pilot_connect_finish(pilot_handle connect, int timeout_ms, struct pilot_peer *at, struct pilot_error *error);

/*
 Accepts streams on a port from peers that were granted the port, from now until the handle is closed. On port 1000 a
 listener takes the place of the node's own service; ports 7, 1001 and 1002 stay with theirs.
 Any thread; does not wait for the network. PILOT_E_CONFLICT (the port is bound).
 */
pilot_handle pilot_listen(pilot_handle node, uint16_t port, struct pilot_error *error);

/*
 Returns a descriptor that is readable when pilot_accept may have a stream at once. The descriptor belongs to the handle.
 */
int pilot_listener_fd(pilot_handle listener,
                      struct pilot_error *error);

/*
 Returns the descriptor of the next stream, as pilot_connect does. *from (or NULL) gets the node that opened the stream.
 Waits at most timeout_ms (0: not at all; negative: for ever). Any thread; several may wait at once.
 PILOT_E_WOULD_BLOCK, PILOT_E_TIMEOUT, PILOT_E_CLOSED (the handle was closed meanwhile), PILOT_E_NOT_RUNNING,
 PILOT_E_FULL (no descriptors are left).
 */
int pilot_accept(pilot_handle listener, int timeout_ms, struct pilot_peer *from, struct pilot_error *error);

/*
 From now on the end of a descriptor that pilot_connect, pilot_connect_start or pilot_accept returns for this node resets its
 stream, unless pilot_finish came before: so the peer tells a program that died from one that was done. Otherwise closing
 a descriptor ends the stream as closing a TCP socket does, also when a program dies. Listeners that exist stay as they are.
 Any thread; does not wait.
 */
int pilot_end_explicitly(pilot_handle node,
                         struct pilot_error *error);

/*
 Starts a node in this process and returns its handle. The node has two threads: the loop, and a worker for the disk.
 Any thread; blocks until the node serves, which takes milliseconds; the rendezvous is reached later.
 PILOT_E_INVALID (an argument, or the identity file is damaged), PILOT_E_CONFLICT (the folder, the socket or the UDP
 address is in use), PILOT_E_FULL, PILOT_E_INTERNAL.
 */
pilot_handle pilot_node_start(const struct pilot_config *config, struct pilot_error *error);

/*
 Returns a handle for the daemon that serves this Unix socket (NULL: the usual place: $PILOT_SOCKET, else pilot.sock in
 $PILOT_HOME or in $XDG_RUNTIME_DIR, else in /tmp/pilot-UID). The daemon runs as this user or as root. The handle stays
 valid when the daemon restarts. Any thread; waits at most 5 s, for a daemon that takes no clients. PILOT_E_NOT_RUNNING,
 PILOT_E_CONFLICT (another user serves the socket), PILOT_E_TIMEOUT.
 */
pilot_handle pilot_attach(const char *socket, struct pilot_error *error);

/*
 Runs one operation that has no function of its own, given as JSON: {"op":"info"}, {"op":"peers"},
 {"op":"trust"}, {"op":"pending"}, {"op":"find","node":"worker-node"}, {"op":"profile","hostname":"new-name"}, and the
 others of the daemon. data (NULL when data_len is 0) goes with the operation. Writes at most answer_len bytes of the JSON
 answer, NUL-terminated, and returns the full length of the answer, so that a call with answer_len 0 tells the size to
 provide. Any thread; blocks, at most a minute. PILOT_E_INVALID, and the failures of the operation.
 */
int64_t pilot_call(pilot_handle node,
                   const char *operation,
                   const uint8_t *data,
                   size_t data_len,
                   char *answer,
                   size_t answer_len,
                   struct pilot_error *error);

/*
 Looks a node up by hostname, address, node number, key or fingerprint, and writes its address (port 0) and hostname.
 Any thread; blocks while the rendezvous is asked, which trusted peers do not need. PILOT_E_NOT_FOUND, PILOT_E_UNREACHABLE
 (the rendezvous does not answer), PILOT_E_INVALID.
 */
int pilot_find(pilot_handle node,
               const char *name,
               struct pilot_peer *found,
               struct pilot_error *error);

/*
 Asks a node's owner for trust, with a note of at most 256 bytes (or NULL). The approval arrives later: use
 pilot_wait_trust, or an event. When the peer has asked already, the call approves that request.
 Any thread; blocks until the request is on the disk. PILOT_E_NOT_FOUND, PILOT_E_UNREACHABLE, PILOT_E_INVALID.
 */
int pilot_handshake(pilot_handle node, const char *peer, const char *note, struct pilot_error *error);

/*
 Approves a request for trust. ports: ports of this node that the peer may reach, "1000,8080" or "all"; NULL:
 7,1000,1001,1002. pilot_set_quota bounds what the peer may use. Any thread; blocks until the approval is on the disk.
 PILOT_E_NOT_FOUND (the peer has not asked), PILOT_E_INVALID.
 */
int pilot_approve(pilot_handle node, const char *peer, const char *ports, struct pilot_error *error);

/*
 Bounds how much of this node a trusted peer may use: quota is "memory=64MB,streams=1000,disk=1GB,messages=10000/day" or some of
 these, and the keys that are not named stay as they are; "default" takes back what was said before. Holds at once.
 Any thread; blocks until that is on the disk. PILOT_E_NOT_FOUND (the peer is not trusted), PILOT_E_INVALID.
 */
int pilot_set_quota(pilot_handle node,
                    const char *peer,
                    const char *quota,
                    struct pilot_error *error);

/*
 Declines a request for trust, with a reason (or NULL). Any thread; blocks until that is on the disk. PILOT_E_NOT_FOUND.
 */
int pilot_reject(pilot_handle node, const char *peer, const char *reason, struct pilot_error *error);

/*
 Withdraws trust: every stream with the peer ends at once. Any thread; blocks until that is on the disk.
 PILOT_E_NOT_FOUND.
 */
int pilot_untrust(pilot_handle node, const char *peer, struct pilot_error *error);

/*
 Waits until a peer is trusted, at most timeout_ms (0: does not wait; negative: an hour). Returns 1 when the peer is
 trusted, 0 when not. Any thread.
 */
int pilot_wait_trust(pilot_handle node, const char *peer, int timeout_ms, struct pilot_error *error);

/*
 Makes a code by which `uses` other nodes (1 to 1000) become trusted peers at once: pilot_join. ports as in pilot_approve; the
 code can be used for expires_s seconds (0: an hour, at most 30 days). Writes at most code_len bytes of it, NUL-terminated,
 and returns its full length; 640 bytes hold any. Any holder of the code may join, so keep it secret. Any thread; blocks until
 the invite is on the disk. PILOT_E_INVALID, PILOT_E_FULL (64 are open), PILOT_E_UNREACHABLE (no way leads to this node).
 */
int64_t pilot_invite(pilot_handle node,
                     const char *ports,
                     uint16_t uses,
                     uint64_t expires_s,
                     char *code,
                     size_t code_len,
                     struct pilot_error *error);

/*
 Makes a trusted peer of the node that has made a code. Returns 0 once both trust each other; after timeout_ms (negative: an
 hour) PILOT_E_TIMEOUT, and the request stands. A node without a rendezvous of its own, and one with another than the
 code's, joins over the addresses in the code. Any thread; blocks. PILOT_E_INVALID (typed wrongly: the text says where),
 PILOT_E_NOT_TRUSTED (used up, expired, withdrawn or dead), PILOT_E_UNREACHABLE.
 */
int pilot_join(pilot_handle node,
               const char *code,
               int timeout_ms,
               struct pilot_error *error);

/*
 Puts a message into a peer's inbox. kind: PILOT_TEXT, PILOT_BINARY or PILOT_JSON; at most 16777216 bytes.
 Returns 0 when the peer has the message on its disk. When the peer does not answer within timeout_ms (negative: 10 s), the
 message waits in the outbox and is delivered later: PILOT_E_UNREACHABLE.
 Any thread; blocks. PILOT_E_NOT_TRUSTED, PILOT_E_NOT_FOUND, PILOT_E_INVALID, PILOT_E_FULL.
 */
int pilot_send_message(pilot_handle node,
                       const char *peer,
                       int kind,
                       const uint8_t *data,
                       size_t len,
                       int timeout_ms,
                       struct pilot_error *error);

/*
 Reads the oldest message of the inbox with an id greater than after_id, and leaves it there. Returns 1, or 0 when there is
 none. PILOT_E_FULL: the body is longer than buffer_len; *message has its length, and the message stays.
 Any thread; blocks for the disk.
 */
int pilot_read_message(pilot_handle node,
                       uint64_t after_id,
                       struct pilot_message *message,
                       uint8_t *buffer,
                       size_t buffer_len,
                       struct pilot_error *error);

/*
 Takes a message out of the inbox. Returns 1, or 0 when there is no such message. Any thread; blocks for the disk.
 */
int pilot_take_message(pilot_handle node, uint64_t id, struct pilot_error *error);

/*
 Sends a file to a peer and waits until the peer has verified and synced the file. A transfer that broke goes on where it
 ended when the same file is sent again. timeout_ms: longest silence of the peer (negative: a minute). Returns the number
 of bytes that this call sent.
 Any thread; blocks. PILOT_E_NOT_FOUND (no such file or node), PILOT_E_NOT_TRUSTED, PILOT_E_RESET, PILOT_E_TIMEOUT,
 PILOT_E_FULL (the peer's disk).
 */
int64_t pilot_send_file(pilot_handle node,
                        const char *peer,
                        const char *path,
                        int timeout_ms,
                        struct pilot_error *error);

/*
 Publishes an event to the subscribers of this node's event stream (port 1002) and returns their number. topic: 1 to 4096
 bytes; data: 1 to 1048576. To publish at another node, open a stream to its port 1002. Any thread.
 */
int pilot_publish(pilot_handle node,
                  const char *topic,
                  const uint8_t *data,
                  size_t len,
                  struct pilot_error *error);

/*
 Lets programs of this machine reach a peer's port by a listener, PORT (of loopback; any free one with 0),
 HOST:PORT or unix:PATH, until the returned handle is closed; connections that stand then go on. Writes the address that is
 bound into bound (NULL when bound_len is 0), cut to bound_len and NUL-terminated; 128 bytes hold any but a path.
 Any thread. PILOT_E_INVALID, PILOT_E_CONFLICT (the address is taken), PILOT_E_FULL, PILOT_E_NOT_RUNNING.
 */
pilot_handle pilot_forward(pilot_handle node,
                           const char *listen,
                           const char *peer,
                           uint16_t port,
                           char *bound,
                           size_t bound_len,
                           struct pilot_error *error);

/*
 Lets peers reach a program at a port of this node until the returned handle is closed; connections that stand then go on.
 target: where the program listens, as PORT on this machine, HOST:PORT or unix:PATH. flags: PILOT_HTTP, PILOT_A2A,
 PILOT_PROXY_PROTOCOL, or 0. nodes: the only peers that may come, separated by commas; NULL: all that trust lets in.
 Any thread. PILOT_E_INVALID, PILOT_E_CONFLICT (the port is bound), PILOT_E_NOT_FOUND (a node is not trusted),
 PILOT_E_FULL, PILOT_E_NOT_RUNNING.
 */
pilot_handle pilot_expose(pilot_handle node,
                          uint16_t port,
                          const char *target,
                          int flags,
                          const char *nodes,
                          struct pilot_error *error);

/*
 Asks a peer and waits for the answer, at most timeout_ms (negative: until the deadline). kind: PILOT_TEXT, PILOT_BINARY or
 PILOT_JSON; at most 16777216 bytes. deadline_s: seconds until the question is not handed out any more, 1 to 604800; 0: 604800.
 question: room for PILOT_QUESTION_ID_SIZE bytes, which gets the id of the question, also with PILOT_E_FULL.
 Returns 1 with the answer in *answer and buffer, or 0 when it has not come: pilot_wait_answer gives it later. An answer stays on
 the disk until pilot_take_message(node, answer->id). Any thread; blocks. PILOT_E_NOT_TRUSTED, PILOT_E_NOT_FOUND,
 PILOT_E_INVALID, PILOT_E_REFUSED (the peer knows no questions), PILOT_E_FULL (the answer is longer than buffer_len, and
 answer->len has its length; or this node has asked as much as it may).
 */
int pilot_ask(pilot_handle node,
              const char *peer,
              int kind_of_data,
              const uint8_t *data,
              size_t len,
              int timeout_ms,
              uint32_t deadline_s,
              char *question,
              struct pilot_message *answer,
              uint8_t *buffer,
              size_t buffer_len,
              struct pilot_error *error);

/*
 Waits for the answer to a question of this node, which its id names, at most timeout_ms (0: does not wait; negative: for the life
 of the question). Returns 1 with the answer in *answer and buffer, or 0. Any thread; blocks. PILOT_E_NOT_FOUND, PILOT_E_INVALID,
 PILOT_E_FULL (as pilot_ask has it).
 */
int pilot_wait_answer(pilot_handle node,
                      const char *question,
                      int timeout_ms,
                      struct pilot_message *answer,
                      uint8_t *buffer,
                      size_t buffer_len,
                      struct pilot_error *error);

/*
 Reads the oldest question of the inbox that waits for an answer and has an id greater than after_id, and leaves it there. Returns
 1, or 0 when there is none. PILOT_E_FULL: the body is longer than buffer_len; *question has its length. Any thread; blocks for
 the disk.
 */
int pilot_next_question(pilot_handle node,
                        uint64_t after_id,
                        struct pilot_message *question,
                        uint8_t *buffer,
                        size_t buffer_len,
                        struct pilot_error *error);

/*
 Answers a question of the inbox, by its id there, and takes it away: both in one step on the disk. The same answer again changes
 nothing. Returns 0 once that is on this node's disk; the answer leaves when the peer can be reached.
 Any thread; blocks for the disk. PILOT_E_CONFLICT (the question has another answer), PILOT_E_NOT_FOUND (it was taken away, or its
 deadline is over), PILOT_E_INVALID, PILOT_E_FULL.
 */
int pilot_reply(pilot_handle node,
                uint64_t question_id,
                int kind_of_data,
                const uint8_t *data,
                size_t len,
                struct pilot_error *error);

/*
 Returns the state of the stream behind a descriptor of pilot_connect or pilot_accept: PILOT_STREAM_OPEN, 0 (both sides
 have ended in order), or the code of the failure that broke the stream. When reading the descriptor gives 0 and the state
 is PILOT_STREAM_OPEN, the peer has ended its side in order. The node remembers the last 4096 ends.
 Any thread. PILOT_E_NOT_FOUND: no stream of this node; PILOT_E_CLOSED: no descriptor.
 */
int pilot_stream_end(pilot_handle node,
                     int fd,
                     struct pilot_error *error);

/*
 Tells that the end of a descriptor, which follows, is meant: call it before shutting its writing down or closing it, on a
 node with pilot_end_explicitly. Any thread; does not wait for the network. PILOT_E_CLOSED: no descriptor.
 */
int pilot_finish(pilot_handle node,
                 int fd,
                 struct pilot_error *error);

/*
 Resets the stream behind a descriptor of pilot_connect or pilot_accept, as closing a TCP socket after SO_LINGER with a time
 of 0 does: bytes on their way are dropped, and every use of the stream fails at both ends. The caller closes the
 descriptor. Any thread; does not wait for the network. PILOT_E_CLOSED: no descriptor.
 */
int pilot_abort(pilot_handle node,
                int fd,
                struct pilot_error *error);

/*
 Opens a stream as pilot_connect does, and returns a handle for pilot_stream_read and pilot_stream_write instead of a
 descriptor: with a node of this process, bytes go to and from the caller's buffer without the kernel. pilot_close ends the
 stream in order, or resets it when bytes are unread; when the program dies before, the peer sees a reset.
 */
pilot_handle pilot_stream_connect(pilot_handle node,
                                  const char *peer,
                                  uint16_t port,
                                  int timeout_ms,
                                  struct pilot_error *error);

/*
 Opens a stream as pilot_connect_with does, and returns a handle as pilot_stream_connect does.
 */
pilot_handle pilot_stream_connect_with(pilot_handle node,
                                       const char *peer,
                                       uint16_t port,
                                       const uint8_t *first,
                                       size_t first_len,
                                       int timeout_ms,
                                       struct pilot_error *error);

/*
 Accepts a stream as pilot_accept does, and returns a handle as pilot_stream_connect does.
 */
pilot_handle pilot_stream_accept(pilot_handle listener,
                                 int timeout_ms,
                                 struct pilot_peer *from,
                                 struct pilot_error *error);

/*
 Reads at most len bytes and returns their number; 0 when the peer has ended its side in order. Waits at most timeout_ms (0:
 not at all; negative: for ever). Any thread; use one thread at a time per direction.
 PILOT_E_WOULD_BLOCK, PILOT_E_TIMEOUT, PILOT_E_RESET and other codes for a stream that broke, PILOT_E_CLOSED.
 */
int64_t pilot_stream_read(pilot_handle stream,
                          uint8_t *buffer,
                          size_t len,
                          int timeout_ms,
                          struct pilot_error *error);

/*
 Writes at most len bytes and returns how many were taken, at least 1 unless len is 0. Waits for room at most timeout_ms (0:
 not at all; negative: for ever). Bytes that were taken are delivered, also when the handle is closed right after.
 Any thread; use one thread at a time per direction. Codes as pilot_stream_read.
 */
int64_t pilot_stream_write(pilot_handle stream,
                           const uint8_t *data,
                           size_t len,
                           int timeout_ms,
                           struct pilot_error *error);

/*
 Ends one direction or both: PILOT_SHUT_READ, PILOT_SHUT_WRITE, PILOT_SHUT_BOTH. Any thread; does not wait.
 */
int pilot_stream_shutdown(pilot_handle stream, int how, struct pilot_error *error);

/*
 Resets a stream, as closing a TCP socket after SO_LINGER with a time of 0 does: bytes on their way are dropped, and every
 use of the stream fails from now on at both ends. The handle is still to be closed. Any thread; does not wait.
 */
int pilot_stream_abort(pilot_handle stream,
                       struct pilot_error *error);

/*
 Returns a descriptor that is readable when reading or writing may make progress; made on first use. Poll it for reading,
 then read and write with a time limit of 0 until PILOT_E_WOULD_BLOCK, which makes it unreadable again. The descriptor
 belongs to the handle.
 */
int pilot_stream_event_fd(pilot_handle stream,
                          struct pilot_error *error);

/*
 Closes a handle of any kind. Threads inside a call with the handle return PILOT_E_CLOSED, PILOT_E_RESET or
 PILOT_E_NOT_RUNNING; a stream delivers the written bytes; a node of this process ends in order, and its streams with it,
 once the last call with it is over; a connect is given up. Descriptors that were handed out stay the caller's.
 Any thread; does not wait for the network. Returns 0.
 PILOT_E_CLOSED: the handle was closed before, or is unknown.
 */
int pilot_close(pilot_handle handle);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* PILOT_H */
