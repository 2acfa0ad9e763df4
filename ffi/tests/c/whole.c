/* The parts of libpilot that no example uses: readiness, connects without waiting, published events, messages, files.
 *
 *   ./whole own FOLDER KEY@host:port        two nodes of this process
 *   ./whole attach FOLDER SOCKET SOCKET     two daemons in FOLDER, with the hostnames node-a and node-b
 */
#include "check.h"

#include <errno.h>
#include <poll.h>
#include <sys/stat.h>

static unsigned char buffer[2 << 20];

static int ready(int fd, int ms) {
  struct pollfd p;
  p.fd = fd;
  p.events = POLLIN;
  p.revents = 0;
  return poll(&p, 1, ms);
}

/* A handle's descriptor is readable exactly when a call may make progress. */
static void readiness(pilot_handle a, pilot_handle b, const char *name_b) {
  pilot_handle listener = must("listen", pilot_listen(b, 7000, &error));
  pilot_handle ours, theirs;
  int fd, total = 0;
  long long n;
  EXPECT(ready(pilot_listener_fd(listener, &error), 0), 0);
  ours = must("connect", pilot_stream_connect(a, name_b, 7000, 10000, &error));
  EXPECT(ready(pilot_listener_fd(listener, &error), 10000), 1);
  theirs = must("accept", pilot_stream_accept(listener, 10000, NULL, &error));
  fd = (int)must("event fd", pilot_stream_event_fd(ours, &error));
  EXPECT(pilot_stream_event_fd(ours, &error), fd);
  EXPECT(ready(fd, 1000), 1); /* readable until the first read */
  EXPECT(pilot_stream_read(ours, buffer, 10, 0, &error), PILOT_E_WOULD_BLOCK);
  EXPECT(ready(fd, 20), 0);
  EXPECT(pilot_stream_write(theirs, (const unsigned char *)"hello", 5, -1, &error), 5);
  EXPECT(ready(fd, 10000), 1);
  EXPECT(pilot_stream_read(ours, buffer, 10, 0, &error), 5);
  EXPECT(pilot_stream_read(ours, buffer, 10, 0, &error), PILOT_E_WOULD_BLOCK);
  EXPECT(ready(fd, 20), 0);
  /* The stream is filled to the last byte, and then has room again. */
  while ((n = pilot_stream_write(ours, buffer, sizeof buffer, 200, &error)) > 0) total += (int)n;
  EXPECT(n, PILOT_E_TIMEOUT);
  while ((n = pilot_stream_write(ours, buffer, 1, 0, &error)) > 0) total += (int)n;
  EXPECT(n, PILOT_E_WOULD_BLOCK);
  EXPECT(ready(fd, 20), 0);
  while (total > 0) {
    n = must("read", pilot_stream_read(theirs, buffer, sizeof buffer, 10000, &error));
    total -= (int)n;
  }
  EXPECT(ready(fd, 10000), 1);
  EXPECT(pilot_stream_write(ours, buffer, 1, 10000, &error), 1);
  /* The end makes the descriptor readable too. */
  while (pilot_stream_read(ours, buffer, 10, 0, &error) == PILOT_E_WOULD_BLOCK && ready(fd, 50)) {
  }
  EXPECT(pilot_stream_shutdown(theirs, PILOT_SHUT_WRITE, &error), 0);
  EXPECT(ready(fd, 10000), 1);
  EXPECT(pilot_stream_read(ours, buffer, 10, 10000, &error), 0);
  EXPECT(pilot_close(ours), 0);
  EXPECT(pilot_close(theirs), 0);
  EXPECT(pilot_close(listener), 0);
}

/* Connects that are started, and then finished, given up, or refused. */
static void connects(pilot_handle a, pilot_handle b, const char *name_b) {
  pilot_handle listener = must("listen", pilot_listen(b, 7100, &error));
  pilot_handle connect = must("start", pilot_connect_start(a, name_b, 7100, &error));
  pilot_peer at;
  int fd, other, i;
  at.struct_size = sizeof at;
  EXPECT(ready(pilot_connect_fd(connect, &error), 10000), 1);
  fd = (int)must("finish", pilot_connect_finish(connect, 0, &at, &error));
  EXPECT(at.port, 7100);
  EXPECT(strcmp(at.hostname, name_b), 0);
  EXPECT(pilot_connect_finish(connect, 0, NULL, &error), PILOT_E_WOULD_BLOCK); /* the descriptor is handed out once */
  EXPECT(pilot_close(connect), 0);
  other = (int)must("accept", pilot_accept(listener, 10000, &at, &error));
  EXPECT(pilot_stream_end(a, fd, &error), PILOT_STREAM_OPEN);
  close(other);
  EXPECT(read(fd, buffer, 1), 0);
  EXPECT(pilot_stream_end(a, fd, &error), PILOT_STREAM_OPEN); /* the peer has ended in order, and this side may still write */
  close(fd);
  connect = must("start", pilot_connect_start(a, name_b, 7999, &error));
  EXPECT(pilot_connect_finish(connect, 10000, NULL, &error), PILOT_E_REFUSED);
  EXPECT(pilot_close(connect), 0);
  connect = must("start", pilot_connect_start(a, "nobody-at-all", 7999, &error));
  EXPECT(pilot_connect_finish(connect, 10000, NULL, &error), PILOT_E_NOT_FOUND);
  EXPECT(pilot_close(connect), 0);
  for (i = 0; i < 50; i++) {
    connect = must("start", pilot_connect_start(a, name_b, 7100, &error));
    EXPECT(pilot_close(connect), 0);
  }
  EXPECT(pilot_close(listener), 0);
}

/* Early data is read first, in every form of opening a stream. */
static void first_bytes(pilot_handle a, pilot_handle b, const char *name_b) {
  pilot_handle listener = must("listen", pilot_listen(b, 7200, &error));
  int way;
  for (way = 0; way < 3; way++) {
    const size_t len = way == 0 ? 5 : PILOT_FIRST_MAX;
    pilot_handle stream = 0, theirs;
    size_t done = 0;
    int fd = -1;
    memset(buffer, 'a' + way, len);
    if (way == 0) {
      fd = (int)must("connect", pilot_connect_with(a, name_b, 7200, buffer, len, 10000, NULL, &error));
    } else if (way == 1) {
      pilot_handle connect = must("start", pilot_connect_start_with(a, name_b, 7200, buffer, len, &error));
      fd = (int)must("finish", pilot_connect_finish(connect, 10000, NULL, &error));
      EXPECT(pilot_close(connect), 0);
    } else {
      stream = must("connect", pilot_stream_connect_with(a, name_b, 7200, buffer, len, 10000, &error));
    }
    if (fd >= 0) EXPECT(write(fd, "!", 1), 1);
    if (stream > 0) EXPECT(pilot_stream_write(stream, (const unsigned char *)"!", 1, 10000, &error), 1);
    theirs = must("accept", pilot_stream_accept(listener, 10000, NULL, &error));
    memset(buffer, 0, sizeof buffer);
    while (done < len + 1) {
      done += (size_t)must("read", pilot_stream_read(theirs, buffer + done, len + 1 - done, 10000, &error));
    }
    EXPECT(buffer[0], 'a' + way);
    EXPECT(buffer[len - 1], 'a' + way);
    EXPECT(buffer[len], '!');
    EXPECT(pilot_close(theirs), 0);
    if (fd >= 0) close(fd);
    if (stream > 0) EXPECT(pilot_close(stream), 0);
  }
  EXPECT(pilot_connect_with(a, name_b, 7999, buffer, 5, 10000, NULL, &error), PILOT_E_REFUSED);
  EXPECT(pilot_close(listener), 0);
}

/* Resets, by descriptor and by handle: of a stream that is aborted, and of one that is closed with bytes unread. */
static void resets(pilot_handle a, pilot_handle b, const char *name_b) {
  pilot_handle listener = must("listen", pilot_listen(b, 7300, &error));
  int way;
  for (way = 0; way < 3; way++) {
    const int fd = (int)must("connect", pilot_connect(a, name_b, 7300, 10000, NULL, &error));
    const int other = (int)must("accept", pilot_accept(listener, 10000, NULL, &error));
    EXPECT(write(fd, "question", 8), 8);
    EXPECT(ready(other, 10000), 1);
    if (way == 0) EXPECT(pilot_abort(b, other, &error), 0);
    if (way == 1) EXPECT(write(other, "answer", 6), 6);
    if (way == 2) EXPECT(read(other, buffer, sizeof buffer), 8);
    close(other);
    if (way == 1) EXPECT(read(fd, buffer, sizeof buffer), 6);
    if (way == 2) { /* everything was read: an orderly end */
      EXPECT(read(fd, buffer, 1), 0);
    } else {
#if defined(__linux__) && !defined(PORTABLE_PLATFORM)
      EXPECT(read(fd, buffer, 1), -1);
      EXPECT(errno, ECONNRESET);
#else
      EXPECT(read(fd, buffer, 1), 0);
#endif
      EXPECT(pilot_stream_end(a, fd, &error), PILOT_E_RESET);
    }
    close(fd);
  }
  for (way = 0; way < 3; way++) {
    pilot_handle ours = must("connect", pilot_stream_connect(a, name_b, 7300, 10000, &error));
    pilot_handle theirs = must("accept", pilot_stream_accept(listener, 10000, NULL, &error));
    EXPECT(pilot_stream_write(ours, (const unsigned char *)"question", 8, 10000, &error), 8);
    EXPECT(ready(pilot_stream_event_fd(theirs, &error), 10000), 1);
    if (way == 0) EXPECT(pilot_stream_abort(theirs, &error), 0);
    if (way == 1) usleep(300000); /* the bytes wait at the other end */
    if (way == 2) EXPECT(pilot_stream_read(theirs, buffer, sizeof buffer, 10000, &error), 8);
    EXPECT(pilot_close(theirs), 0);
    EXPECT(pilot_stream_read(ours, buffer, 1, 10000, &error), way == 2 ? 0 : PILOT_E_RESET);
    if (way != 2) EXPECT(pilot_stream_write(ours, (const unsigned char *)"x", 1, 10000, &error), PILOT_E_RESET);
    EXPECT(pilot_close(ours), 0);
  }
  /* A descriptor that ends explicitly ends in order after the word, and otherwise with a reset. */
  EXPECT(pilot_end_explicitly(a, &error), 0);
  for (way = 0; way < 2; way++) {
    const int fd = (int)must("connect", pilot_connect(a, name_b, 7300, 10000, NULL, &error));
    const int other = (int)must("accept", pilot_accept(listener, 10000, NULL, &error));
    EXPECT(write(fd, "half", 4), 4);
    if (way == 0) EXPECT(pilot_finish(a, fd, &error), 0);
    close(fd);
    EXPECT(read(other, buffer, 4), 4);
    EXPECT(ready(other, 10000), 1);
    if (way == 0) EXPECT(read(other, buffer, 1), 0);
    else EXPECT(read(other, buffer, 1) <= 0, 1); /* -1 where the system tells resets */
    EXPECT(pilot_stream_end(b, other, &error), way == 0 ? PILOT_STREAM_OPEN : PILOT_E_RESET);
    close(other);
  }
  EXPECT(pilot_abort(a, -1, &error), PILOT_E_INVALID);
  EXPECT(pilot_close(listener), 0);
}

/* A plain socket reaches a port of b through a forward of a; both end with their handles. */
static void programs(pilot_handle a, pilot_handle b, const char *name_b) {
  char bound[128];
  pilot_handle forward, expose;
  EXPECT(pilot_expose(b, 7300, "nowhere:0", 0, NULL, &error), PILOT_E_INVALID);
  EXPECT(pilot_expose(b, 7300, "1", 8, NULL, &error), PILOT_E_INVALID);
  EXPECT(pilot_expose(b, 7300, "1", PILOT_HTTP, "stranger", &error), PILOT_E_NOT_FOUND);
  expose = must("expose", pilot_expose(b, 7300, "1", PILOT_PROXY_PROTOCOL, NULL, &error));
  EXPECT(pilot_expose(b, 7300, "1", 0, NULL, &error), PILOT_E_CONFLICT);
  forward = must("forward", pilot_forward(a, "127.0.0.1:0", name_b, 7300, bound, sizeof bound, &error));
  EXPECT(strncmp(bound, "127.0.0.1:", 10), 0);
  EXPECT(strcmp(bound, "127.0.0.1:0") != 0, 1);
  EXPECT(pilot_forward(a, bound, name_b, 7300, NULL, 0, &error), PILOT_E_CONFLICT);
  EXPECT(pilot_close(forward), 0);
  EXPECT(pilot_close(expose), 0);
}

static void events(pilot_handle b) {
  pilot_handle watch = must("watch", pilot_watch(b, "room.*", &error));
  pilot_event event;
  int fd = (int)must("event fd", pilot_event_fd(watch, &error));
  memset(&event, 0, sizeof event);
  event.struct_size = sizeof event;
  EXPECT(pilot_publish(b, "other", (const unsigned char *)"x", 1, &error), 0);
  EXPECT(pilot_publish(b, "room.heat", (const unsigned char *)"21.5", 4, &error), 1);
  EXPECT(ready(fd, 10000), 1);
  do {
    EXPECT(pilot_next_event(watch, &event, 10000, &error), PILOT_E_FULL);
    EXPECT(event.payload_len, 4);
    event.payload = buffer;
    event.payload_size = sizeof buffer;
    EXPECT(pilot_next_event(watch, &event, 10000, &error), 0);
  } while (event.kind != PILOT_EVENT_PUBLISHED);
  EXPECT(memcmp(buffer, "21.5", 4), 0);
  EXPECT(strstr(event.detail, "room.heat") != NULL, 1);
  EXPECT(pilot_close(watch), 0);
}

static void messages(pilot_handle a, pilot_handle b, const char *name_a, const char *name_b) {
  pilot_message message;
  uint64_t first;
  message.struct_size = sizeof message;
  EXPECT(pilot_read_message(b, 0, &message, buffer, sizeof buffer, &error), 0);
  EXPECT(pilot_send_message(a, name_b, PILOT_JSON, (const unsigned char *)"{\"n\":1}", 7, 10000, &error), 0);
  EXPECT(pilot_send_message(a, name_b, PILOT_BINARY, buffer, 1 << 20, 10000, &error), 0);
  EXPECT(pilot_read_message(b, 0, &message, buffer, sizeof buffer, &error), 1);
  EXPECT(message.len, 7);
  EXPECT(message.kind, PILOT_JSON);
  EXPECT(strcmp(message.from.hostname, name_a), 0);
  EXPECT(memcmp(buffer, "{\"n\":1}", 7), 0);
  first = message.id;
  EXPECT(pilot_read_message(b, first, &message, buffer, 10, &error), PILOT_E_FULL);
  EXPECT(message.len, 1 << 20);
  EXPECT(pilot_read_message(b, first, &message, buffer, sizeof buffer, &error), 1);
  EXPECT(pilot_take_message(b, first, &error), 1);
  EXPECT(pilot_take_message(b, first, &error), 0);
  EXPECT(pilot_take_message(b, message.id, &error), 1);
  EXPECT(pilot_read_message(b, 0, &message, buffer, sizeof buffer, &error), 0);
}

/* A code of one node is read by the other, which trusts it already; a wrong letter of it is named. */
static void codes(pilot_handle a, pilot_handle b) {
  char code[640];
  EXPECT(pilot_invite(a, NULL, 2, 60, code, sizeof code, &error) == (int64_t)strlen(code), 1);
  EXPECT(strncmp(code, "pilot:", 6), 0);
  EXPECT(pilot_join(b, code, 10000, &error), 0);
  code[20] = code[20] == 'q' ? 'p' : 'q';
  EXPECT(pilot_join(b, code, 10000, &error), PILOT_E_INVALID);
  EXPECT(strncmp(error.message, "letter 15 of group 1", 20), 0);
}

/* A code of a group makes a member, which the group's founder lists, renews not before a day is over, and removes. */
static void groups(pilot_handle a, pilot_handle b, const char *name_b) {
  char code[2048], *text = (char *)buffer;
  pilot_handle watch = must("watch", pilot_watch(a, NULL, &error));
  pilot_event event;
  memset(&event, 0, sizeof event);
  event.struct_size = sizeof event;
  EXPECT(pilot_group(a, PILOT_GROUP_CREATE, "fleet", NULL, "messages", NULL, &error), 0);
  EXPECT(pilot_group(a, PILOT_GROUP_CREATE, "fleet", NULL, NULL, NULL, &error), PILOT_E_CONFLICT);
  EXPECT(pilot_group_invite(a, "fleet", 0, 2, 60, code, sizeof code, &error) == (int64_t)strlen(code), 1);
  EXPECT(pilot_join(b, code, 10000, &error), 0);
  do {
    EXPECT(pilot_next_event(watch, &event, 10000, &error), 0);
  } while (event.kind != PILOT_EVENT_GROUP);
  EXPECT(strstr(event.detail, "\"group\":\"fleet\"") != NULL, 1);
  EXPECT(pilot_close(watch), 0);
  EXPECT(pilot_group_invite(b, "fleet", 0, 2, 60, code, sizeof code, &error), PILOT_E_NOT_TRUSTED);
  must("group_members", pilot_call(a, "{\"op\":\"group_members\",\"group\":\"fleet\"}", NULL, 0, text, sizeof buffer, &error));
  EXPECT(strstr(text, name_b) != NULL, 1);
  EXPECT(pilot_group(a, PILOT_GROUP_RENEW, "fleet", name_b, NULL, NULL, &error), PILOT_E_CONFLICT);
  EXPECT(pilot_group(a, PILOT_GROUP_ROLE, "fleet", name_b, NULL, "admin", &error), 0);
  EXPECT(pilot_group_invite(a, "fleet", 1, 2, 60, code, sizeof code, &error) == (int64_t)strlen(code), 1);
  EXPECT(pilot_group(a, PILOT_GROUP_REMOVE, "fleet", name_b, NULL, NULL, &error), 0);
  EXPECT(pilot_group(a, PILOT_GROUP_REMOVE, "fleet", name_b, NULL, NULL, &error), PILOT_E_NOT_FOUND);
  EXPECT(pilot_group(a, PILOT_GROUP_LEAVE, "fleet", NULL, NULL, NULL, &error), 0);
}

/* A question waits for its answer, which is given once; then it is there for whoever asks for it, until it is taken. */
static void questions(pilot_handle a, pilot_handle b, const char *name_b) {
  pilot_message message;
  char id[PILOT_QUESTION_ID_SIZE];
  const unsigned char *text = (const unsigned char *)"how many?";
  uint64_t question;
  message.struct_size = sizeof message;
  EXPECT(pilot_next_question(b, 0, &message, buffer, sizeof buffer, &error), 0);
  EXPECT(pilot_ask(a, name_b, PILOT_JSON, text, 9, 0, 0, id, &message, buffer, sizeof buffer, &error), PILOT_E_INVALID);
  EXPECT(pilot_ask(a, name_b, PILOT_TEXT, text, 9, 0, 60, id, &message, buffer, sizeof buffer, &error), 0);
  EXPECT(strlen(id), 32);
  while (pilot_next_question(b, 0, &message, buffer, sizeof buffer, &error) == 0) usleep(5000);
  EXPECT(message.len, 9);
  EXPECT(memcmp(buffer, text, 9), 0);
  question = message.id;
  EXPECT(pilot_reply(b, question, PILOT_JSON, (const unsigned char *)"42", 2, &error), 0);
  EXPECT(pilot_reply(b, question, PILOT_JSON, (const unsigned char *)"42", 2, &error), 0);
  EXPECT(pilot_reply(b, question, PILOT_JSON, (const unsigned char *)"43", 2, &error), PILOT_E_CONFLICT);
  EXPECT(pilot_wait_answer(a, id, 10000, &message, buffer, 1, &error), PILOT_E_FULL);
  EXPECT(pilot_wait_answer(a, id, 0, &message, buffer, sizeof buffer, &error), 1);
  EXPECT(message.len, 2);
  EXPECT(message.kind, PILOT_JSON);
  EXPECT(memcmp(buffer, "42", 2), 0);
  EXPECT(pilot_take_message(a, message.id, &error), 1);
  EXPECT(pilot_wait_answer(a, id, 0, &message, buffer, sizeof buffer, &error), PILOT_E_NOT_FOUND);
}

/* What a peer may use of a node is bounded by its owner, and said again. */
static void quotas(pilot_handle a, const char *name_b) {
  char *text = (char *)buffer;
  EXPECT(pilot_set_quota(a, name_b, "streams=77,memory=2MB", &error), 0);
  must("trust", pilot_call(a, "{\"op\":\"trust\"}", NULL, 0, text, sizeof buffer, &error));
  EXPECT(strstr(text, "\"quota\":\"memory=2MB,streams=77\"") != NULL, 1);
  EXPECT(pilot_set_quota(a, name_b, "speed=9", &error), PILOT_E_INVALID);
  EXPECT(pilot_set_quota(a, name_b, "default", &error), 0);
  must("trust", pilot_call(a, "{\"op\":\"trust\"}", NULL, 0, text, sizeof buffer, &error));
  EXPECT(strstr(text, "\"quota\"") == NULL, 1);
}

static void files(pilot_handle a, const char *folder, const char *name_b) {
  char path[600], arrived[700];
  FILE *file;
  struct stat info;
  snprintf(path, sizeof path, "%s/report.bin", folder);
  snprintf(arrived, sizeof arrived, "%s/%s/received/report.bin", folder, name_b);
  file = fopen(path, "w");
  if (!file || fwrite(buffer, 1, sizeof buffer, file) != sizeof buffer || fclose(file)) exit(1);
  EXPECT(pilot_send_file(a, name_b, path, -1, &error), sizeof buffer);
  EXPECT(stat(arrived, &info), 0);
  EXPECT(info.st_size, sizeof buffer);
  EXPECT(pilot_send_file(a, name_b, "/nowhere/file", -1, &error), PILOT_E_NOT_FOUND);
}

int main(int argc, char **argv) {
  pilot_handle a, b;
  int own = argc == 4;
  const char *name_a = own ? "bad-a" : "node-a", *name_b = own ? "bad-b" : "node-b";
  if (own) {
    char *pair_argv[4];
    pair_argv[2] = argv[2];
    pair_argv[3] = argv[3];
    pair(pair_argv, &a, &b);
  } else if (argc == 5) {
    a = must("attach", pilot_attach(argv[3], &error));
    b = must("attach", pilot_attach(argv[4], &error));
  } else {
    return 2;
  }
  readiness(a, b, name_b);
  connects(a, b, name_b);
  first_bytes(a, b, name_b);
  resets(a, b, name_b);
  programs(a, b, name_b);
  events(b);
  codes(a, b);
  groups(a, b, name_b);
  quotas(a, name_b);
  if (!own) { /* these nodes have no services */
    messages(a, b, name_a, name_b);
    questions(a, b, name_b);
    files(a, argv[2], name_b);
  }
  EXPECT(pilot_close(a), 0);
  EXPECT(pilot_close(b), 0);
  if (failures == 0) printf("ok\n");
  return failures != 0;
}
