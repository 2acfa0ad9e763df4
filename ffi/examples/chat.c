/* A chat of two processes: lines typed at one side appear at the other. Ends when either side ends its input.
 *
 *   ./chat wait PORT NODE...          NODE: attach SOCKET, or FOLDER NAME KEY@host:port
 *   ./chat call PEER PORT NODE...
 */
#include "common.h"

#include <poll.h>

static void talk(int fd) {
  char line[4096];
  struct pollfd fds[2];
  fds[0].fd = STDIN_FILENO;
  fds[1].fd = fd;
  fds[0].events = fds[1].events = POLLIN;
  for (;;) {
    ssize_t n;
    if (poll(fds, 2, -1) < 0) exit(1);
    /* Typed lines are sent before the end of the other side is handled. */
    if (fds[0].revents) {
      n = read(STDIN_FILENO, line, sizeof line);
      if (n <= 0) {
        shutdown(fd, SHUT_WR); /* the other side may still send */
        fds[0].fd = -1;
      } else {
        write_all(fd, line, (size_t)n);
      }
    }
    if (fds[1].revents) {
      n = read(fd, line, sizeof line);
      if (n <= 0) return;
      write_all(STDOUT_FILENO, line, (size_t)n);
    }
  }
}

int main(int argc, char **argv) {
  pilot_handle node, listener;
  pilot_peer from;
  int fd;
  if (argc >= 5 && strcmp(argv[1], "wait") == 0) {
    node = node_of(argv + 3);
    listener = must("listen", pilot_listen(node, (uint16_t)atoi(argv[2]), &error));
    fprintf(stderr, "waiting\n");
    from.struct_size = sizeof from;
    fd = (int)must("accept", pilot_accept(listener, -1, &from, &error));
    fprintf(stderr, "%s is here\n", from.hostname);
    pilot_close(listener);
  } else if (argc >= 6 && strcmp(argv[1], "call") == 0) {
    node = node_of(argv + 4);
    fd = (int)must("connect", pilot_connect(node, argv[2], (uint16_t)atoi(argv[3]), -1, NULL, &error));
  } else {
    return 2;
  }
  talk(fd);
  close(fd);
  must("close", pilot_close(node));
  return 0;
}
