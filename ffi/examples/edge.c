/* A small device: reports a measurement at each line of its input, within a budget of memory that it checks itself.
 *
 *   ./edge PEER BUDGET_KIB FOLDER NAME KEY@host:port < measurements
 */
#include "common.h"

#include <malloc.h>

/* Memory that is in RAM. Unit: KiB. */
static long resident(void) {
  long pages = 0, size = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (!file || fscanf(file, "%ld %ld", &size, &pages) != 2) exit(1);
  fclose(file);
  return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

int main(int argc, char **argv) {
  char line[256], home[512];
  pilot_config config;
  pilot_handle node;
  long used, most = 0, budget;
  int sent = 0;
  if (argc != 6) return 2;
  mallopt(M_ARENA_MAX, 1); /* three threads need one arena */
  budget = atol(argv[2]);
  snprintf(home, sizeof home, "%s/%s", argv[3], argv[4]);
  memset(&config, 0, sizeof config);
  config.struct_size = sizeof config;
  config.home = home;
  config.hostname = argv[4];
  config.rendezvous = argv[5];
  config.stream_ring_len_max = 65536;
  node = must("node", pilot_node_start(&config, &error));
  while (must("trust", pilot_wait_trust(node, argv[1], 1000, &error)) == 0) {
    int asked = pilot_handshake(node, argv[1], "measurements", &error);
    if (asked != PILOT_E_UNREACHABLE) must("handshake", asked); /* unreachable: not registered yet */
  }
  while (fgets(line, sizeof line, stdin)) {
    must("report", pilot_send_message(node, argv[1], PILOT_TEXT, (const unsigned char *)line, strcspn(line, "\n"), 10000, &error));
    sent++;
    used = resident();
    if (used > most) most = used;
    if (used > budget) {
      fprintf(stderr, "%ld KiB are in use, %ld are allowed\n", used, budget);
      return 3;
    }
  }
  printf("%d reports, at most %ld KiB\n", sent, most);
  must("close", pilot_close(node));
  return 0;
}
