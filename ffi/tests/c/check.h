/* Shared parts of the C tests: expectations, and two nodes of one process. */
#ifndef CHECK_H
#define CHECK_H

#include "../../examples/common.h"

static int failures;

static inline void expect(int line, const char *what, long long is, long long wanted) {
  if (is == wanted) return;
  fprintf(stderr, "line %d: %s gave %lld (%s), not %lld: %s\n", line, what, is, pilot_code_name((int)is), wanted, error.message);
  failures++;
}
#define EXPECT(call, wanted) expect(__LINE__, #call, call, wanted)

/* Two nodes of this process that trust each other. */
static inline void pair(char **argv, pilot_handle *a, pilot_handle *b) {
  int code;
  *a = start_node(argv[2], "bad-a", argv[3]);
  *b = start_node(argv[2], "bad-b", argv[3]);
  while ((code = pilot_handshake(*a, "bad-b", NULL, &error)) < 0) {
    if (code != PILOT_E_UNREACHABLE && code != PILOT_E_NOT_FOUND) must("handshake", code);
    usleep(10000);
  }
  while (pilot_approve(*b, "bad-a", "all", &error) < 0) usleep(10000);
  must("trust", pilot_wait_trust(*a, "bad-b", 20000, &error));
}

#endif
