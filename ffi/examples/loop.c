/* One epoll loop that mixes Pilot and ordinary sockets: a proxy that lets local TCP clients reach a port of a peer. Connects
 * are started without waiting, so that a slow peer holds no other client back.
 *
 *   ./loop TCP_PORT PEER PORT COUNT NODE...          ends after COUNT clients
 */
#include "common.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>

#define PAIRS_MAX 256
#define BUFFER_LEN 16384

/* One direction of a pair. */
struct way {
  size_t begin, end;
  int ended;
  char buffer[BUFFER_LEN];
};

/* A TCP client, and the stream that is made for it. */
struct pair {
  int tcp, stream;
  pilot_handle connect;
  struct way out, back;
};

static struct pair pairs[PAIRS_MAX];
static int loop;

static void watch(int fd, int index, uint32_t events) {
  struct epoll_event event;
  memset(&event, 0, sizeof event);
  event.events = events;
  event.data.u32 = (uint32_t)index;
  if (epoll_ctl(loop, EPOLL_CTL_ADD, fd, &event) < 0) exit(1);
}

/* Moves bytes one way until a call would wait; returns -1 when the pair is broken. */
static int move(int from, int to, struct way *way) {
  for (;;) {
    ssize_t n;
    if (way->begin < way->end) {
      n = send(to, way->buffer + way->begin, way->end - way->begin, MSG_NOSIGNAL);
      if (n < 0) return errno == EAGAIN ? 0 : -1;
      way->begin += (size_t)n;
      continue;
    }
    if (way->ended) return 0;
    n = recv(from, way->buffer, sizeof way->buffer, 0);
    if (n < 0) return errno == EAGAIN ? 0 : -1;
    if (n == 0) {
      way->ended = 1;
      shutdown(to, SHUT_WR);
      return 0;
    }
    way->begin = 0;
    way->end = (size_t)n;
  }
}

/* Goes on with a pair; returns 1 when the pair is over. */
static int serve(struct pair *pair, int index) {
  if (pair->stream < 0) {
    int fd = pilot_connect_finish(pair->connect, 0, NULL, &error);
    if (fd == PILOT_E_WOULD_BLOCK) return 0;
    pilot_close(pair->connect);
    if (fd < 0) {
      fprintf(stderr, "connect: %s\n", error.message);
      close(pair->tcp);
      return 1;
    }
    pair->stream = fd;
    fcntl(fd, F_SETFL, O_NONBLOCK);
    watch(fd, index, EPOLLIN | EPOLLOUT | EPOLLET);
    watch(pair->tcp, index, EPOLLIN | EPOLLOUT | EPOLLET);
  }
  if (move(pair->tcp, pair->stream, &pair->out) == 0 && move(pair->stream, pair->tcp, &pair->back) == 0 &&
      !(pair->out.ended && pair->back.ended)) {
    return 0;
  }
  close(pair->tcp);
  close(pair->stream);
  return 1;
}

int main(int argc, char **argv) {
  struct sockaddr_in at;
  struct epoll_event events[64];
  int listener, left, used = 0, over = 0, n, i;
  pilot_handle node;
  if (argc < 7) return 2;
  node = node_of(argv + 5);
  left = atoi(argv[4]);
  loop = epoll_create1(EPOLL_CLOEXEC);
  listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  memset(&at, 0, sizeof at);
  at.sin_family = AF_INET;
  at.sin_port = htons((uint16_t)atoi(argv[1]));
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (bind(listener, (struct sockaddr *)&at, sizeof at) < 0 || listen(listener, 64) < 0) return 1;
  watch(listener, PAIRS_MAX, EPOLLIN);
  printf("listening\n");
  fflush(stdout);
  while (over < left) {
    n = epoll_wait(loop, events, 64, -1);
    for (i = 0; i < n; i++) {
      int index = (int)events[i].data.u32;
      struct pair *pair = &pairs[index < PAIRS_MAX ? index : 0];
      if (index == PAIRS_MAX) {
        int tcp = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (tcp < 0 || used == PAIRS_MAX) continue;
        pair = &pairs[used];
        pair->tcp = tcp;
        pair->stream = -1;
        pair->connect = must("connect", pilot_connect_start(node, argv[2], (uint16_t)atoi(argv[3]), &error));
        watch((int)must("connect", pilot_connect_fd(pair->connect, &error)), used, EPOLLIN);
        used++;
      } else if (pair->tcp >= 0 && serve(pair, index)) {
        pair->tcp = -1;
        over++;
      }
    }
  }
  close(listener);
  must("close", pilot_close(node));
  return 0;
}
