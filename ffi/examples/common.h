/* Shared parts of the examples: starting a node from the command line, and ending with a reason. */
#ifndef COMMON_H
#define COMMON_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "pilot.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static pilot_error error = {sizeof(pilot_error), 0, {0}, {0}};

/* Returns a value that is not negative, and ends the program otherwise. */
static inline long long must(const char *what, long long value) {
  if (value >= 0) return value;
  fprintf(stderr, "%s: %s: %s (%s)\n", what, pilot_code_name((int)value), error.message, error.hint);
  exit(1);
}

/* Starts a node in this process, in FOLDER/NAME. */
static inline pilot_handle start_node(const char *folder, const char *name, const char *rendezvous) {
  char home[512];
  pilot_config config;
  snprintf(home, sizeof home, "%s/%s", folder, name);
  memset(&config, 0, sizeof config);
  config.struct_size = sizeof config;
  config.home = home;
  config.hostname = name;
  config.rendezvous = rendezvous;
  return must("node", pilot_node_start(&config, &error));
}

/* Makes a node from "attach" and a socket, or from FOLDER, NAME and KEY@host:port. */
static inline pilot_handle node_of(char **argv) {
  if (strcmp(argv[0], "attach") == 0) return must("attach", pilot_attach(argv[1], &error));
  return start_node(argv[0], argv[1], argv[2]);
}

static inline void write_all(int fd, const void *data, size_t len) {
  const char *at = (const char *)data;
  while (len > 0) {
    ssize_t n = write(fd, at, len);
    if (n <= 0) {
      perror("write");
      exit(1);
    }
    at += n;
    len -= (size_t)n;
  }
}

#endif
