/* Two nodes in one process approve each other and talk through a stream.
 *
 *   cc -o talk talk.c -lpilot && ./talk KEY@host:port FOLDER
 */
#define _POSIX_C_SOURCE 200809L
#include "pilot.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static pilot_error error;

static void die(const char *what) {
  fprintf(stderr, "%s: %s (%s)\n", what, error.message, error.hint);
  exit(1);
}

static pilot_node *start(const char *folder, const char *name, const char *rendezvous) {
  char home[512];
  pilot_config config;
  pilot_node *node;
  snprintf(home, sizeof home, "%s/%s", folder, name);
  memset(&config, 0, sizeof config);
  config.struct_size = sizeof config;
  config.home = home;
  config.hostname = name;
  config.rendezvous = rendezvous;
  node = pilot_node_start(&config, &error);
  if (!node) die(name);
  return node;
}

/* Repeats an operation until its answer contains what is waited for. */
static void until(pilot_node *node, const char *operation, const char *wanted) {
  char answer[8192];
  struct timespec pause = {0, 10000000};
  int tries;
  for (tries = 0; tries < 1000; tries++) {
    if (pilot_call(node, operation, NULL, 0, answer, sizeof answer, &error) < 0) die(operation);
    if (strstr(answer, wanted)) return;
    nanosleep(&pause, NULL);
  }
  fprintf(stderr, "%s never gave %s\n", operation, wanted);
  exit(1);
}

/* Serves one stream: sends back what it reads, in order. */
static void *serve(void *argument) {
  char buffer[4096];
  ssize_t n;
  pilot_error failed;
  int fd = pilot_accept((pilot_node *)argument, 1000, 10000, &failed);
  if (fd < 0) {
    fprintf(stderr, "accept: %s\n", failed.message);
    exit(1);
  }
  while ((n = read(fd, buffer, sizeof buffer)) > 0) {
    if (write(fd, buffer, (size_t)n) != n) exit(1);
  }
  close(fd);
  return NULL;
}

int main(int argc, char **argv) {
  static const char question[] = "{\"action\":\"execute_query\"}";
  char answer[sizeof question];
  size_t got = 0;
  ssize_t n;
  pthread_t server;
  pilot_node *a, *b;
  int fd, tries;
  struct timespec pause = {0, 10000000};

  if (argc != 3) return 2;
  a = start(argv[2], "c-primary", argv[1]);
  b = start(argv[2], "c-worker", argv[1]);
  until(a, "{\"op\":\"info\"}", "\"rendezvous\":\"ready\"");
  until(b, "{\"op\":\"info\"}", "\"rendezvous\":\"ready\"");

  if (pilot_connect(a, "c-worker", 1000, 5000, &error) != PILOT_E_NOT_TRUSTED) return 1;
  if (pilot_call(a, "{\"op\":\"handshake\",\"node\":\"c-worker\"}", NULL, 0, NULL, 0, &error) < 0) die("handshake");
  until(b, "{\"op\":\"pending\"}", "c-primary");
  if (pilot_call(b, "{\"op\":\"approve\",\"node\":\"c-primary\"}", NULL, 0, NULL, 0, &error) < 0) die("approve");
  until(a, "{\"op\":\"trust\"}", "\"total\":1");

  if (pthread_create(&server, NULL, serve, b) != 0) return 1;
  for (tries = 0, fd = -1; fd < 0 && tries < 500; tries++) {
    fd = pilot_connect(a, "c-worker", 1000, 5000, &error);
    if (fd < 0) nanosleep(&pause, NULL); /* the server thread may not have bound its port yet */
  }
  if (fd < 0) die("connect");
  if (write(fd, question, sizeof question) != (ssize_t)sizeof question) return 1;
  shutdown(fd, SHUT_WR);
  while (got < sizeof answer && (n = read(fd, answer + got, sizeof answer - got)) > 0) got += (size_t)n;
  if (got != sizeof question || memcmp(question, answer, got) != 0) return 1;
  close(fd);
  pthread_join(server, NULL);

  /* Bad use gives codes, never crashes. */
  if (pilot_connect(NULL, "x", 1, 0, &error) != PILOT_E_INVALID) return 1;
  if (pilot_connect(a, NULL, 1, 0, NULL) != PILOT_E_INVALID) return 1;
  if (pilot_call(a, "not json", NULL, 0, NULL, 0, &error) != PILOT_E_INVALID) return 1;
  if (pilot_call(a, "{\"op\":\"info\"}", NULL, 5, NULL, 0, &error) != PILOT_E_INVALID) return 1;
  if (pilot_node_start(NULL, &error) != NULL) return 1;
  pilot_node_free(NULL);

  printf("libpilot %s: %s\n", pilot_version(), answer);
  pilot_node_free(a);
  pilot_node_free(b);
  return 0;
}
