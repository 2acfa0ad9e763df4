/* Echo with poll: a server for any number of streams in one thread, and its client. Streams are plain descriptors.
 *
 *   ./echo server PORT COUNT NODE...          ends after COUNT streams
 *   ./echo client PEER PORT BYTES NODE...     NODE: attach SOCKET, or FOLDER NAME KEY@host:port
 */
#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>

#define STREAMS_MAX 64
#define BUFFER_LEN 65536

/* Bytes read from a stream and not yet written back. */
struct stream {
  size_t begin, end;
  int ended;
  char buffer[BUFFER_LEN];
};

/* Moves bytes as far as possible without waiting; returns 0 when the stream is over. */
static int pump(int fd, struct stream *s) {
  for (;;) {
    ssize_t n;
    if (s->begin < s->end) {
      n = write(fd, s->buffer + s->begin, s->end - s->begin);
      if (n < 0) return errno == EAGAIN;
      s->begin += (size_t)n;
      continue;
    }
    if (s->ended) return 0;
    n = read(fd, s->buffer, sizeof s->buffer);
    if (n < 0) return errno == EAGAIN;
    s->ended = n == 0;
    s->begin = 0;
    s->end = (size_t)n;
  }
}

static void serve(pilot_handle node, uint16_t port, int count) {
  static struct stream streams[STREAMS_MAX];
  struct pollfd fds[STREAMS_MAX + 1];
  int open = 0, i;
  pilot_handle listener = must("listen", pilot_listen(node, port, &error));
  printf("listening\n");
  fflush(stdout);
  while (count > 0 || open > 0) {
    fds[open].fd = (int)must("listener", pilot_listener_fd(listener, &error));
    fds[open].events = POLLIN;
    if (poll(fds, (nfds_t)open + (count > 0 && open < STREAMS_MAX), -1) < 0) exit(1);
    if (count > 0 && open < STREAMS_MAX && fds[open].revents) {
      int fd = pilot_accept(listener, 0, NULL, &error);
      if (fd == PILOT_E_WOULD_BLOCK) continue;
      must("accept", fd);
      fcntl(fd, F_SETFL, O_NONBLOCK);
      memset(&streams[open], 0, sizeof streams[open]);
      fds[open].fd = fd;
      fds[open].revents = POLLIN;
      open++;
      count--;
    }
    for (i = 0; i < open; i++) {
      if (!fds[i].revents) continue;
      if (pump(fds[i].fd, &streams[i])) {
        fds[i].events = streams[i].begin < streams[i].end ? POLLOUT : POLLIN;
        continue;
      }
      close(fds[i].fd);
      open--;
      fds[i] = fds[open];
      memcpy(&streams[i], &streams[open], sizeof streams[i]);
      i--;
    }
  }
  pilot_close(listener);
}

static void ask(pilot_handle node, const char *peer, uint16_t port, size_t bytes) {
  static char out[BUFFER_LEN], in[BUFFER_LEN];
  size_t sent = 0, got = 0, i;
  struct pollfd p;
  pilot_peer at;
  at.struct_size = sizeof at;
  p.fd = (int)must("connect", pilot_connect(node, peer, port, 10000, &at, &error));
  fcntl(p.fd, F_SETFL, O_NONBLOCK);
  for (i = 0; i < sizeof out; i++) out[i] = (char)(i * 31 + (i >> 8));
  if (bytes == 0) shutdown(p.fd, SHUT_WR);
  for (;;) {
    ssize_t n;
    p.events = (short)(POLLIN | (sent < bytes ? POLLOUT : 0));
    if (poll(&p, 1, 30000) <= 0) exit(1);
    if (sent < bytes && (p.revents & POLLOUT)) {
      size_t at_most = sizeof out - sent % sizeof out;
      n = write(p.fd, out + sent % sizeof out, bytes - sent < at_most ? bytes - sent : at_most);
      if (n > 0) sent += (size_t)n;
      if (sent == bytes) shutdown(p.fd, SHUT_WR);
    }
    n = read(p.fd, in, sizeof in);
    if (n == 0) break;
    for (i = 0; n > 0 && i < (size_t)n; i++, got++) {
      if (in[i] != out[got % sizeof out]) exit(3);
    }
  }
  if (got != bytes || must("end", pilot_stream_end(node, p.fd, &error)) > PILOT_STREAM_OPEN) exit(4);
  close(p.fd);
  printf("%lu bytes from %s and back\n", (unsigned long)got, at.hostname);
}

int main(int argc, char **argv) {
  pilot_handle node;
  if (argc >= 6 && strcmp(argv[1], "server") == 0) {
    node = node_of(argv + 4);
    serve(node, (uint16_t)atoi(argv[2]), atoi(argv[3]));
  } else if (argc >= 7 && strcmp(argv[1], "client") == 0) {
    node = node_of(argv + 5);
    ask(node, argv[2], (uint16_t)atoi(argv[3]), (size_t)atol(argv[4]));
  } else {
    return 2;
  }
  must("close", pilot_close(node));
  return 0;
}
