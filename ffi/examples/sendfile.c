/* A file through a stream with sendfile(2): a stream is a plain descriptor. For files that must arrive whole, resumed and
 * verified, use pilot_send_file.
 *
 *   ./sendfile PEER PORT FILE NODE...          NODE: attach SOCKET, or FOLDER NAME KEY@host:port
 */
#include "common.h"

#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

int main(int argc, char **argv) {
  pilot_handle node;
  struct stat info;
  off_t at = 0;
  char end;
  int file, fd;
  if (argc < 6) return 2;
  node = node_of(argv + 4);
  file = open(argv[3], O_RDONLY);
  if (file < 0 || fstat(file, &info) < 0) return 1;
  fd = (int)must("connect", pilot_connect(node, argv[1], (uint16_t)atoi(argv[2]), 10000, NULL, &error));
  while (at < info.st_size) {
    if (sendfile(fd, file, &at, (size_t)(info.st_size - at)) <= 0) {
      perror("sendfile");
      return 1;
    }
  }
  shutdown(fd, SHUT_WR);
  /* The peer has read everything when it ends its own side. */
  if (read(fd, &end, 1) != 0) return 1;
  must("end", pilot_stream_end(node, fd, &error));
  printf("%ld bytes\n", (long)at);
  close(fd);
  close(file);
  must("close", pilot_close(node));
  return 0;
}
