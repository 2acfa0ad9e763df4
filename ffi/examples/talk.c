/* Two nodes in one process approve each other and talk: a stream by handle, a message, a datagram, events.
 *
 *   cc -o talk talk.c $(pkg-config --cflags --libs pilot) && ./talk KEY@host:port FOLDER
 */
#include "common.h"

#include <pthread.h>

/* Waits for an event of one kind. */
static void await(pilot_handle watch, int kind, pilot_event *event) {
  do {
    event->struct_size = sizeof *event;
    event->payload = NULL;
    event->payload_size = 0;
    must("event", pilot_next_event(watch, event, 10000, &error));
  } while (event->kind != kind);
}

/* Serves one stream: sends back every byte, in order. */
static void *serve(void *listener) {
  unsigned char buffer[4096];
  long long n;
  pilot_peer from;
  pilot_handle stream;
  from.struct_size = sizeof from;
  stream = must("accept", pilot_stream_accept(*(pilot_handle *)listener, 10000, &from, &error));
  printf("stream from %s\n", from.hostname);
  while ((n = must("read", pilot_stream_read(stream, buffer, sizeof buffer, -1, &error))) > 0) {
    must("write", pilot_stream_write(stream, buffer, (size_t)n, -1, &error));
  }
  pilot_close(stream);
  return NULL;
}

int main(int argc, char **argv) {
  static const char question[] = "{\"action\":\"execute_query\"}";
  unsigned char answer[256];
  size_t got = 0;
  long long n;
  pthread_t server;
  pilot_handle a, b, watch, listener, stream;
  pilot_event event;
  pilot_message message;
  pilot_peer peer;
  uint16_t port = 0;
  int sockets[2];

  if (argc != 3) return 2;
  a = start_node(argv[2], "c-primary", argv[1]);
  b = start_node(argv[2], "c-worker", argv[1]);
  watch = must("watch", pilot_watch(b, NULL, &error));
  while ((n = pilot_handshake(a, "c-worker", "let us talk", &error)) < 0) {
    if (n != PILOT_E_UNREACHABLE && n != PILOT_E_NOT_FOUND) must("handshake", n); /* not registered yet */
    usleep(10000);
  }
  await(watch, PILOT_EVENT_TRUST_REQUEST, &event);
  printf("request from %s\n", event.peer.hostname);
  if (pilot_connect(a, "c-worker", 1000, 5000, NULL, &error) != PILOT_E_NOT_TRUSTED) return 1;
  must("approve", pilot_approve(b, event.peer.hostname, "all", &error));
  if (must("wait", pilot_wait_trust(a, "c-worker", 10000, &error)) != 1) return 1;

  listener = must("listen", pilot_listen(b, 1000, &error));
  if (pilot_listen(b, 1000, &error) != PILOT_E_CONFLICT) return 1;
  if (pthread_create(&server, NULL, serve, &listener) != 0) return 1;
  stream = must("connect", pilot_stream_connect(a, "c-worker", 1000, 5000, &error));
  must("write", pilot_stream_write(stream, (const unsigned char *)question, sizeof question, -1, &error));
  must("shutdown", pilot_stream_shutdown(stream, PILOT_SHUT_WRITE, &error));
  while ((n = must("read", pilot_stream_read(stream, answer + got, sizeof answer - got, -1, &error))) > 0) got += (size_t)n;
  if (got != sizeof question || memcmp(question, answer, got) != 0) return 1;
  pthread_join(server, NULL);
  printf("echo: %s\n", (const char *)answer);

  /* A datagram there and back. */
  peer.struct_size = sizeof peer;
  sockets[0] = (int)must("datagrams", pilot_datagram_open(a, 0, &port, &error));
  sockets[1] = (int)must("datagrams", pilot_datagram_open(b, 5353, NULL, &error));
  must("find", pilot_find(a, "c-worker", &peer, &error));
  peer.port = 5353;
  must("send", pilot_datagram_send(sockets[0], &peer, (const unsigned char *)"ping", 4, &error));
  if (must("receive", pilot_datagram_recv(sockets[1], &peer, answer, sizeof answer, &error)) != 4 || peer.port != port) return 1;
  must("send", pilot_datagram_send(sockets[1], &peer, answer, 4, &error));
  if (must("receive", pilot_datagram_recv(sockets[0], NULL, answer, sizeof answer, &error)) != 4) return 1;
  if (memcmp(answer, "ping", 4) != 0) return 1;

  /* A message waits in the inbox until it is taken. A node without services takes no message from peers. */
  if (pilot_send_message(a, "c-worker", PILOT_JSON, (const unsigned char *)"{", 1, 1000, &error) != PILOT_E_INVALID) return 1;
  message.struct_size = sizeof message;
  if (must("inbox", pilot_read_message(b, 0, &message, answer, sizeof answer, &error)) != 0) return 1;
  if (pilot_call(a, "{\"op\":\"info\"}", NULL, 0, NULL, 0, &error) < 100) return 1;

  close(sockets[0]);
  close(sockets[1]);
  must("close", pilot_close(stream));
  must("close", pilot_close(watch));
  must("close", pilot_close(listener));
  must("close", pilot_close(a));
  must("close", pilot_close(b));
  printf("libpilot %s\n", pilot_version());
  return 0;
}
