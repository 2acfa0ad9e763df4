/* Wrong uses of libpilot: each must return a code. The first argument names the part; then come FOLDER and
 * KEY@host:port.
 */
#include "check.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

/* Longest wait for what comes on every machine, under valgrind and beside others too. Unit: ms. */
#define PATIENCE 60000

static unsigned char buffer[65536];

static void nulls_and_nonsense(char **argv) {
  static const char not_utf8[] = {'a', (char)0xff, 0};
  pilot_config config;
  pilot_peer peer;
  pilot_event event;
  pilot_message message;
  pilot_error small = {4, 77, {0}, {0}};
  pilot_handle node;
  memset(&config, 0, sizeof config);
  memset(&peer, 0, sizeof peer);
  memset(&event, 0, sizeof event);
  memset(&message, 0, sizeof message);

  /* NULL everywhere, no handle, no struct_size. */
  EXPECT(pilot_node_start(NULL, NULL), PILOT_E_INVALID);
  EXPECT(pilot_node_start(&config, NULL), PILOT_E_INVALID);
  config.struct_size = sizeof config;
  EXPECT(pilot_node_start(&config, &error), PILOT_E_INVALID);
  config.home = not_utf8;
  EXPECT(pilot_node_start(&config, &error), PILOT_E_INVALID);
  config.home = argv[2];
  config.rendezvous = "nonsense";
  EXPECT(pilot_node_start(&config, &error), PILOT_E_INVALID);
  config.rendezvous = NULL;
  config.hostname = "Not A Hostname";
  EXPECT(pilot_node_start(&config, &error), PILOT_E_INVALID);
  config.hostname = NULL;
  config.listen = "nowhere";
  EXPECT(pilot_node_start(&config, &error), PILOT_E_INVALID);
  EXPECT(pilot_attach("/nowhere/pilot.sock", NULL), PILOT_E_NOT_RUNNING);
  EXPECT(pilot_attach(not_utf8, NULL), PILOT_E_INVALID);
  EXPECT(pilot_close(0), PILOT_E_CLOSED);
  EXPECT(pilot_close(-5), PILOT_E_CLOSED);
  EXPECT(pilot_connect(0, "x", 1, 0, NULL, &small), PILOT_E_CLOSED);
  EXPECT(small.code, 77);

  node = start_node(argv[2], "bad-null", argv[3]);
  EXPECT(pilot_call(node, NULL, NULL, 0, NULL, 0, NULL), PILOT_E_INVALID);
  EXPECT(pilot_call(node, "not json", NULL, 0, NULL, 0, NULL), PILOT_E_INVALID);
  EXPECT(pilot_call(node, "{}", NULL, 0, NULL, 0, NULL), PILOT_E_INVALID);
  EXPECT(pilot_call(node, "{\"op\":\"info\"}", NULL, 5, NULL, 0, NULL), PILOT_E_INVALID);
  EXPECT(pilot_call(node, "{\"op\":\"info\"}", NULL, 0, NULL, 5, NULL), PILOT_E_INVALID);
  EXPECT(pilot_call(node, "{\"op\":\"info\"}", buffer, SIZE_MAX, NULL, 0, NULL), PILOT_E_INVALID);
  EXPECT(pilot_call(node, not_utf8, NULL, 0, NULL, 0, NULL), PILOT_E_INVALID);
  EXPECT(pilot_find(node, NULL, NULL, NULL), PILOT_E_INVALID);
  EXPECT(pilot_find(node, "x", &peer, NULL), PILOT_E_INVALID);
  EXPECT(pilot_handshake(node, NULL, NULL, NULL), PILOT_E_INVALID);
  EXPECT(pilot_handshake(node, "x", not_utf8, NULL), PILOT_E_INVALID);
  EXPECT(pilot_approve(node, NULL, NULL, NULL), PILOT_E_INVALID);
  EXPECT(pilot_approve(node, "x", "not,ports", NULL), PILOT_E_INVALID);
  EXPECT(pilot_approve(node, "x", NULL, NULL), PILOT_E_NOT_FOUND);
  EXPECT(pilot_set_quota(node, NULL, "streams=7", NULL), PILOT_E_INVALID);
  EXPECT(pilot_set_quota(node, "x", NULL, NULL), PILOT_E_INVALID);
  EXPECT(pilot_set_quota(node, "x", "streams=0", NULL), PILOT_E_INVALID);
  EXPECT(pilot_set_quota(node, "x", "streams=7", NULL), PILOT_E_NOT_FOUND);
  EXPECT(pilot_reject(node, NULL, NULL, NULL), PILOT_E_INVALID);
  EXPECT(pilot_untrust(node, NULL, NULL), PILOT_E_INVALID);
  EXPECT(pilot_untrust(node, "x", NULL), PILOT_E_NOT_FOUND);
  EXPECT(pilot_invite(node, "no-service", 1, 0, NULL, 0, NULL), PILOT_E_INVALID);
  EXPECT(pilot_invite(node, NULL, 0, 0, NULL, 0, NULL), PILOT_E_INVALID);
  EXPECT(pilot_invite(node, NULL, 1, 0, NULL, 1, NULL), PILOT_E_INVALID);
  EXPECT(pilot_join(node, NULL, 0, NULL), PILOT_E_INVALID);
  EXPECT(pilot_group(node, PILOT_GROUP_LEAVE, NULL, NULL, NULL, NULL, NULL), PILOT_E_INVALID);
  EXPECT(pilot_group(node, 0, "x", NULL, NULL, NULL, NULL), PILOT_E_INVALID);
  EXPECT(pilot_group(node, PILOT_GROUP_LEAVE, "x", NULL, NULL, NULL, NULL), PILOT_E_NOT_FOUND);
  EXPECT(pilot_group(node, PILOT_GROUP_REMOVE, "x", NULL, NULL, NULL, NULL), PILOT_E_NOT_FOUND);
  EXPECT(pilot_group(node, PILOT_GROUP_CREATE, "x", NULL, "no-service", NULL, NULL), PILOT_E_INVALID);
  EXPECT(pilot_group_invite(node, NULL, 0, 1, 0, NULL, 0, NULL), PILOT_E_INVALID);
  EXPECT(pilot_group_invite(node, "x", 0, 1, 0, NULL, 1, NULL), PILOT_E_INVALID);
  EXPECT(pilot_group_invite(node, "x", 0, 1, 0, NULL, 0, NULL), PILOT_E_NOT_FOUND);
  EXPECT(pilot_group_invite(node, "x", 2, 1, 0, NULL, 0, NULL), PILOT_E_INVALID);
  EXPECT(pilot_join(node, "pilot:qq", 0, NULL), PILOT_E_INVALID);
  EXPECT(pilot_wait_trust(node, NULL, 0, NULL), PILOT_E_INVALID);
  EXPECT(pilot_wait_trust(node, "x", 0, NULL), 0);
  EXPECT(pilot_send_message(node, NULL, PILOT_TEXT, NULL, 0, 0, NULL), PILOT_E_INVALID);
  EXPECT(pilot_send_message(node, "x", 99, NULL, 0, 0, NULL), PILOT_E_INVALID);
  EXPECT(pilot_send_message(node, "x", PILOT_TEXT, NULL, 1, 0, NULL), PILOT_E_INVALID);
  EXPECT(pilot_send_message(node, "x", PILOT_TEXT, buffer, SIZE_MAX, 0, NULL), PILOT_E_INVALID);
  EXPECT(pilot_ask(node, NULL, PILOT_TEXT, NULL, 0, 0, 0, NULL, &message, NULL, 0, NULL), PILOT_E_INVALID);
  EXPECT(pilot_ask(node, "x", PILOT_TEXT, NULL, 0, 0, 0, NULL, NULL, NULL, 0, NULL), PILOT_E_INVALID);
  EXPECT(pilot_wait_answer(node, NULL, 0, &message, NULL, 0, NULL), PILOT_E_INVALID);
  EXPECT(pilot_next_question(node, 0, NULL, NULL, 0, NULL), PILOT_E_INVALID);
  EXPECT(pilot_reply(node, 7, 99, NULL, 0, NULL), PILOT_E_INVALID);
  EXPECT(pilot_reply(node, 7, PILOT_TEXT, NULL, 0, NULL), PILOT_E_NOT_FOUND);
  EXPECT(pilot_read_message(node, 0, NULL, NULL, 0, NULL), PILOT_E_INVALID);
  EXPECT(pilot_read_message(node, 0, &message, NULL, 0, NULL), PILOT_E_INVALID);
  EXPECT(pilot_take_message(node, UINT64_MAX, NULL), 0);
  EXPECT(pilot_send_file(node, NULL, NULL, 0, NULL), PILOT_E_INVALID);
  EXPECT(pilot_publish(node, NULL, NULL, 0, NULL), PILOT_E_INVALID);
  EXPECT(pilot_publish(node, "topic", NULL, 0, NULL), PILOT_E_INVALID);
  EXPECT(pilot_publish(node, "topic", buffer, 1, NULL), 0);
  EXPECT(pilot_connect(node, NULL, 1, 0, NULL, NULL), PILOT_E_INVALID);
  EXPECT(pilot_connect(node, "x", 1, 0, &peer, NULL), PILOT_E_INVALID);
  EXPECT(pilot_connect(node, not_utf8, 1, 0, NULL, NULL), PILOT_E_INVALID);
  EXPECT(pilot_connect_start(node, NULL, 1, NULL), PILOT_E_INVALID);
  EXPECT(pilot_stream_connect(node, NULL, 1, 0, NULL), PILOT_E_INVALID);
  EXPECT(pilot_connect_with(node, NULL, 1, NULL, 0, 0, NULL, NULL), PILOT_E_INVALID);
  EXPECT(pilot_connect_with(node, "x", 1, NULL, 1, 0, NULL, NULL), PILOT_E_INVALID);
  EXPECT(pilot_connect_with(node, "x", 1, buffer, PILOT_FIRST_MAX + 1, 0, NULL, NULL), PILOT_E_INVALID);
  EXPECT(pilot_connect_start_with(node, "x", 1, NULL, SIZE_MAX, NULL), PILOT_E_INVALID);
  EXPECT(pilot_stream_connect_with(node, "x", 1, NULL, 1, 0, NULL), PILOT_E_INVALID);
  EXPECT(pilot_stream_end(node, -1, NULL), PILOT_E_INVALID);
  EXPECT(pilot_stream_end(node, 0, NULL), PILOT_E_NOT_FOUND);
  EXPECT(pilot_stream_end(node, 9999, NULL), PILOT_E_CLOSED);
  EXPECT(pilot_watch(node, not_utf8, NULL), PILOT_E_INVALID);
  EXPECT(pilot_datagram_send(-1, NULL, NULL, 0, NULL), PILOT_E_INVALID);
  EXPECT(pilot_datagram_send(0, NULL, NULL, 0, NULL), PILOT_E_INVALID);
  EXPECT(pilot_datagram_send(0, &peer, NULL, 0, NULL), PILOT_E_INVALID);
  EXPECT(pilot_datagram_recv(-1, NULL, NULL, 0, NULL), PILOT_E_INVALID);
  peer.struct_size = sizeof peer;
  EXPECT(pilot_datagram_send(9999, &peer, buffer, 1, NULL), PILOT_E_CLOSED);
  EXPECT(pilot_datagram_recv(9999, NULL, buffer, 1, NULL), PILOT_E_CLOSED);
  EXPECT(pilot_datagram_send(9999, &peer, buffer, SIZE_MAX, NULL), PILOT_E_INVALID);

  /* Wrong kinds of handles. */
  {
    pilot_handle listener = must("listen", pilot_listen(node, 5000, &error));
    pilot_handle watch = must("watch", pilot_watch(node, NULL, &error));
    EXPECT(pilot_connect(listener, "x", 1, 0, NULL, &error), PILOT_E_WRONG_KIND);
    EXPECT(pilot_accept(node, 0, NULL, &error), PILOT_E_WRONG_KIND);
    EXPECT(pilot_accept(watch, 0, NULL, &error), PILOT_E_WRONG_KIND);
    EXPECT(pilot_listener_fd(watch, &error), PILOT_E_WRONG_KIND);
    EXPECT(pilot_connect_fd(listener, &error), PILOT_E_WRONG_KIND);
    EXPECT(pilot_connect_finish(listener, 0, NULL, &error), PILOT_E_WRONG_KIND);
    EXPECT(pilot_stream_accept(node, 0, NULL, &error), PILOT_E_WRONG_KIND);
    EXPECT(pilot_stream_read(listener, buffer, 1, 0, &error), PILOT_E_WRONG_KIND);
    EXPECT(pilot_stream_write(node, buffer, 1, 0, &error), PILOT_E_WRONG_KIND);
    EXPECT(pilot_stream_shutdown(node, 0, &error), PILOT_E_WRONG_KIND);
    EXPECT(pilot_stream_event_fd(node, &error), PILOT_E_WRONG_KIND);
    EXPECT(pilot_event_fd(node, &error), PILOT_E_WRONG_KIND);
    EXPECT(pilot_next_event(watch, NULL, 0, &error), PILOT_E_INVALID);
    EXPECT(pilot_next_event(watch, &event, 0, &error), PILOT_E_INVALID);
    event.struct_size = sizeof event;
    event.payload_size = 5;
    EXPECT(pilot_next_event(watch, &event, 0, &error), PILOT_E_INVALID);
    event.payload_size = 0;
    EXPECT(pilot_next_event(node, &event, 0, &error), PILOT_E_WRONG_KIND);
    EXPECT(pilot_accept(listener, 0, NULL, &error), PILOT_E_WOULD_BLOCK);
    EXPECT(pilot_accept(listener, 10, NULL, &error), PILOT_E_TIMEOUT);

    /* Closed twice, and used afterwards. */
    EXPECT(pilot_close(listener), 0);
    EXPECT(pilot_close(listener), PILOT_E_CLOSED);
    EXPECT(pilot_accept(listener, -1, NULL, &error), PILOT_E_CLOSED);
    EXPECT(pilot_close(node), 0);
    EXPECT(pilot_close(node), PILOT_E_CLOSED);
    EXPECT(pilot_connect(node, "x", 1, -1, NULL, &error), PILOT_E_CLOSED);
    EXPECT(pilot_call(node, "{\"op\":\"info\"}", NULL, 0, NULL, 0, &error), PILOT_E_CLOSED);
    while (pilot_next_event(watch, &event, 0, &error) == 0) {
    }
    EXPECT(pilot_next_event(watch, &event, -1, &error), PILOT_E_NOT_RUNNING);
    EXPECT(pilot_close(watch), 0);
  }
}

static void *blocked_read(void *stream) {
  long long n = pilot_stream_read(*(pilot_handle *)stream, buffer, sizeof buffer, -1, NULL);
  if (n != PILOT_E_CLOSED) fprintf(stderr, "a blocked read gave %lld\n", n);
  return (void *)(intptr_t)(n != PILOT_E_CLOSED);
}

static void *blocked_accept(void *listener) {
  int n = pilot_accept(*(pilot_handle *)listener, -1, NULL, NULL);
  if (n != PILOT_E_CLOSED) fprintf(stderr, "a blocked accept gave %d\n", n);
  return (void *)(intptr_t)(n != PILOT_E_CLOSED);
}

static void concurrent_close(pilot_handle a, pilot_handle b) {
  int i;
  void *bad;
  for (i = 0; i < 20; i++) {
    pthread_t reader, acceptor;
    pilot_handle listener = must("listen", pilot_listen(b, 6000, &error));
    pilot_handle ours = must("connect", pilot_stream_connect(a, "bad-b", 6000, PATIENCE, &error));
    pilot_handle theirs = must("accept", pilot_stream_accept(listener, PATIENCE, NULL, &error));
    pthread_create(&reader, NULL, blocked_read, &ours);
    pthread_create(&acceptor, NULL, blocked_accept, &listener);
    usleep((useconds_t)(i * 500));
    EXPECT(pilot_close(ours), 0);
    EXPECT(pilot_close(listener), 0);
    pthread_join(reader, &bad);
    failures += bad != NULL;
    pthread_join(acceptor, &bad);
    failures += bad != NULL;
    EXPECT(pilot_stream_read(ours, buffer, 1, -1, &error), PILOT_E_CLOSED);
    EXPECT(pilot_stream_read(theirs, buffer, 1, PATIENCE, &error), 0);
    EXPECT(pilot_close(theirs), 0);
  }
}

static void lengths(pilot_handle a, pilot_handle b) {
  pilot_handle listener = must("listen", pilot_listen(b, 6100, &error));
  pilot_handle ours = must("connect", pilot_stream_connect(a, "bad-b", 6100, PATIENCE, &error));
  pilot_handle theirs = must("accept", pilot_stream_accept(listener, PATIENCE, NULL, &error));
  EXPECT(pilot_stream_read(ours, NULL, 1, 0, &error), PILOT_E_INVALID);
  EXPECT(pilot_stream_read(ours, buffer, SIZE_MAX, 0, &error), PILOT_E_INVALID);
  EXPECT(pilot_stream_write(ours, NULL, 1, 0, &error), PILOT_E_INVALID);
  EXPECT(pilot_stream_write(ours, buffer, SIZE_MAX, 0, &error), PILOT_E_INVALID);
  EXPECT(pilot_stream_read(ours, NULL, 0, 0, &error), 0);
  EXPECT(pilot_stream_write(ours, NULL, 0, 0, &error), 0);
  EXPECT(pilot_stream_read(ours, buffer, 1, 0, &error), PILOT_E_WOULD_BLOCK);
  EXPECT(pilot_stream_read(ours, buffer, 1, 10, &error), PILOT_E_TIMEOUT);
  EXPECT(pilot_stream_shutdown(ours, 99, &error), PILOT_E_INVALID);
  EXPECT(pilot_stream_shutdown(ours, PILOT_SHUT_WRITE, &error), 0);
  EXPECT(pilot_stream_write(ours, buffer, 1, 0, &error), PILOT_E_RESET);
  EXPECT(pilot_stream_read(theirs, buffer, 1, PATIENCE, &error), 0);
  pilot_close(ours);
  pilot_close(theirs);
  pilot_close(listener);
}

/* A child has the descriptors and nothing else. */
static void forked(pilot_handle a, pilot_handle b) {
  pilot_handle listener = must("listen", pilot_listen(b, 6200, &error));
  int ours = (int)must("connect", pilot_connect(a, "bad-b", 6200, PATIENCE, NULL, &error));
  int theirs = (int)must("accept", pilot_accept(listener, PATIENCE, NULL, &error));
  char byte = 0;
  pid_t child = fork();
  if (child == 0) {
    EXPECT(pilot_connect(a, "bad-b", 6200, -1, NULL, &error), PILOT_E_FORKED);
    EXPECT(pilot_accept(listener, -1, NULL, &error), PILOT_E_FORKED);
    EXPECT(pilot_close(a), PILOT_E_FORKED);
    EXPECT(pilot_call(a, "{\"op\":\"info\"}", NULL, 0, NULL, 0, &error), PILOT_E_FORKED);
    if (failures == 0 && write(ours, "x", 1) != 1) abort();
    kill(getpid(), SIGKILL); /* ends the child without cleaning up objects of the parent */
  }
  if (read(theirs, &byte, 1) != 1 || byte != 'x') failures++;
  waitpid(child, NULL, 0);
  write_all(ours, "y", 1);
  if (read(theirs, &byte, 1) != 1 || byte != 'y') failures++;
  close(ours);
  close(theirs);
  pilot_close(listener);
}

static int open_descriptors(void) {
  int count = 0;
  DIR *folder = opendir("/proc/self/fd");
  while (readdir(folder)) count++;
  closedir(folder);
  return count;
}

static long resident_kib(void) {
  long pages = 0, size = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  /* What the allocator keeps of a burst is no leak; how large bursts get depends on the machine. */
#ifdef __GLIBC__
  malloc_trim(0);
#endif
  if (!file || fscanf(file, "%ld %ld", &size, &pages) != 2) exit(1);
  fclose(file);
  return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static void cycles(pilot_handle a, pilot_handle b) {
  pilot_handle listener = must("listen", pilot_listen(b, 6300, &error));
  int i, before = 0, after;
  long kib = 0;
  for (i = 0; i < 10000; i++) {
    if (i % 2) {
      int ours = (int)must("connect", pilot_connect(a, "bad-b", 6300, PATIENCE, NULL, &error));
      int theirs = (int)must("accept", pilot_accept(listener, PATIENCE, NULL, &error));
      close(ours);
      close(theirs);
    } else {
      pilot_handle ours = must("connect", pilot_stream_connect(a, "bad-b", 6300, PATIENCE, &error));
      pilot_handle theirs = must("accept", pilot_stream_accept(listener, PATIENCE, NULL, &error));
      pilot_close(ours);
      pilot_close(theirs);
    }
    if (i == 2000) {
      usleep(200000);
      before = open_descriptors();
      kib = resident_kib();
    }
  }
  for (i = 0; i < 500 && open_descriptors() > before; i++) usleep(10000); /* the last streams still end */
  after = open_descriptors();
  if (after > before) failures++;
  /* A few buffers are kept for the next streams, not one for each. Streams that both sides closed at once are
   * remembered for ten seconds (TIME-WAIT). */
  for (i = 0; i < 1500 && resident_kib() > kib + 16384; i++) usleep(10000);
  if (resident_kib() > kib + 16384) failures++;
  printf("descriptors %d to %d, memory %ld to %ld KiB\n", before, after, kib, resident_kib());
  pilot_close(listener);
}

static void few_descriptors(pilot_handle a, pilot_handle b) {
  struct rlimit limit, few;
  int fds[4096], count = 0, taken, i, fd = 0;
  pilot_handle listener = must("listen", pilot_listen(b, 6400, &error));
  getrlimit(RLIMIT_NOFILE, &limit);
  few = limit;
  few.rlim_cur = (rlim_t)open_descriptors() + 40;
  setrlimit(RLIMIT_NOFILE, &few);
  while (count < 4096 && (fd = pilot_connect(a, "bad-b", 6400, 2000, NULL, &error)) >= 0) fds[count++] = fd;
  EXPECT(fd, PILOT_E_FULL);
  if (count < 2) failures++;
  taken = count;
  for (i = 0; i < 10; i++) { /* the loop's thread still closes the descriptors of the refused call */
    while (taken < 4096 && (fd = dup(0)) >= 0) fds[taken++] = fd;
    usleep(20000);
  }
  EXPECT(pilot_connect(a, "bad-b", 6400, 2000, NULL, &error), PILOT_E_FULL);
  EXPECT(pilot_listen(b, 6401, &error), PILOT_E_FULL);
  for (i = 0; i < taken; i++) close(fds[i]);
  setrlimit(RLIMIT_NOFILE, &limit);
  fd = (int)must("connect", pilot_connect(a, "bad-b", 6400, PATIENCE, NULL, &error));
  close(fd);
  pilot_close(listener);
  printf("%d streams with few descriptors\n", count);
}

/* Stops every file from growing, which makes writes fail as on a full disk. */
static void full_disk(pilot_handle a, pilot_handle b) {
  struct rlimit limit, none;
  pilot_handle listener = must("listen", pilot_listen(b, 6500, &error));
  int code, i, fd;
  signal(SIGXFSZ, SIG_IGN);
  getrlimit(RLIMIT_FSIZE, &limit);
  none = limit;
  none.rlim_cur = 4096;
  setrlimit(RLIMIT_FSIZE, &none);
  code = pilot_send_message(a, "bad-b", PILOT_BINARY, buffer, sizeof buffer, 5000, &error);
  if (code >= 0) failures++;
  printf("full disk: %s: %s\n", pilot_code_name(code), error.message);
  /* Streams do not need the disk. */
  fd = (int)must("connect", pilot_connect(a, "bad-b", 6500, PATIENCE, NULL, &error));
  close(fd);
  setrlimit(RLIMIT_FSIZE, &limit);
  for (i = 0; i < 100; i++) {
    code = pilot_publish(a, "topic", buffer, 1, &error);
    code = pilot_call(a, "{\"op\":\"profile\",\"tags\":[\"back\"]}", NULL, 0, NULL, 0, &error) < 0 ? -1 : 0;
    if (code == 0) break;
    usleep(10000);
  }
  EXPECT(code, 0);
  pilot_close(listener);
}

/* The daemon is killed while calls wait. */
static void *waits_accept(void *listener) {
  return (void *)(intptr_t)pilot_accept(*(pilot_handle *)listener, -1, NULL, NULL);
}
static void *waits_trust(void *node) { return (void *)(intptr_t)pilot_wait_trust(*(pilot_handle *)node, "nobody", 60000, NULL); }
static void *waits_event(void *watch) {
  pilot_event event;
  memset(&event, 0, sizeof event);
  event.struct_size = sizeof event;
  return (void *)(intptr_t)pilot_next_event(*(pilot_handle *)watch, &event, -1, NULL);
}

static void killed_daemon(char **argv) {
  char socket[512], home[512];
  pthread_t threads[3];
  pilot_handle node, listener, watch;
  int i, ready[2];
  pid_t child;
  char byte;
  void *code;
  snprintf(socket, sizeof socket, "%s/killed.sock", argv[2]);
  snprintf(home, sizeof home, "%s/killed", argv[2]);
  if (pipe(ready) < 0) exit(1);
  child = fork();
  if (child == 0) {
    pilot_config config;
    memset(&config, 0, sizeof config);
    config.struct_size = sizeof config;
    config.home = home;
    config.socket = socket;
    config.services = 1;
    must("daemon", pilot_node_start(&config, &error));
    write_all(ready[1], "x", 1);
    for (;;) pause();
  }
  if (read(ready[0], &byte, 1) != 1) exit(1);
  node = must("attach", pilot_attach(socket, &error));
  listener = must("listen", pilot_listen(node, 6600, &error));
  watch = must("watch", pilot_watch(node, NULL, &error));
  pthread_create(&threads[0], NULL, waits_accept, &listener);
  pthread_create(&threads[1], NULL, waits_trust, &node);
  pthread_create(&threads[2], NULL, waits_event, &watch);
  usleep(200000);
  kill(child, SIGKILL);
  waitpid(child, NULL, 0);
  for (i = 0; i < 3; i++) {
    pthread_join(threads[i], &code);
    EXPECT((intptr_t)code, PILOT_E_NOT_RUNNING);
  }
  EXPECT(pilot_connect(node, "x", 1, -1, NULL, &error), PILOT_E_NOT_RUNNING);
  EXPECT(pilot_close(listener), 0);
  EXPECT(pilot_close(watch), 0);
  EXPECT(pilot_close(node), 0);
}

int main(int argc, char **argv) {
  pilot_handle a, b;
  if (argc != 4) return 2;
  if (strcmp(argv[1], "nonsense") == 0) {
    nulls_and_nonsense(argv);
  } else if (strcmp(argv[1], "killed") == 0) {
    killed_daemon(argv);
  } else {
    pair(argv, &a, &b);
    if (strcmp(argv[1], "streams") == 0) {
      concurrent_close(a, b);
      lengths(a, b);
      forked(a, b);
    } else if (strcmp(argv[1], "cycles") == 0) {
      cycles(a, b);
    } else if (strcmp(argv[1], "limits") == 0) {
      few_descriptors(a, b);
      full_disk(a, b);
    }
    EXPECT(pilot_close(a), 0);
    EXPECT(pilot_close(b), 0);
  }
  if (failures == 0) printf("ok\n");
  return failures != 0;
}
