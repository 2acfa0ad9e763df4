/* Calls of libpilot in any order, on handles of every kind, open and closed, against a model of what each handle is. Arguments:
 * "sequence", FOLDER, KEY@host:port, SEED. The same seed makes the same calls; answers depend on threads and may differ.
 */
#include "check.h"

#include <stdint.h>

enum kind { NONE, NODE, LISTENER, STREAM, WATCH, CONNECT };

/* One handle that was given once. Handles are never given again, so a closed one stays here as such. */
struct slot {
  pilot_handle handle;
  enum kind kind;
  int is_open;
  unsigned char read; /* Place of the next byte to read, of which each byte of a stream tells the lowest eight bits. */
  unsigned char written;
};

#define SLOTS 64
#define STEPS 2000
/* Bytes of one call. */
#define PIECE 3000

static struct slot slots[SLOTS];
static unsigned char bytes[PIECE];
static uint64_t state;

/* xorshift64* */
static uint32_t draw(uint32_t bound) {
  state ^= state >> 12;
  state ^= state << 25;
  state ^= state >> 27;
  return (uint32_t)((state * 2685821657736338717ULL) >> 33) % bound;
}

/* Keeps a handle in the place of any but the two nodes; an open one is closed before. */
static void keep(long long handle, enum kind kind) {
  struct slot *slot = &slots[2 + draw(SLOTS - 2)];
  if (handle < 0) return;
  if (slot->is_open) EXPECT(pilot_close(slot->handle), 0);
  memset(slot, 0, sizeof *slot);
  slot->handle = handle;
  slot->kind = kind;
  slot->is_open = 1;
}

/* Checks the code of a call that wants a handle of one kind. */
static void check(int step, const char *call, const struct slot *slot, enum kind wanted, long long code) {
  const char *fault = NULL;
  if (!slot->is_open) {
    if (code != PILOT_E_CLOSED) fault = "a closed handle";
  } else if (slot->kind != wanted) {
    if (code != PILOT_E_WRONG_KIND) fault = "a handle of another kind";
  } else if (code == PILOT_E_WRONG_KIND || code == PILOT_E_INTERNAL || code == PILOT_E_FORKED || code < PILOT_E_FORKED) {
    fault = "a good handle";
  }
  if (fault != NULL) {
    fprintf(stderr, "step %d: %s with %s gave %lld (%s): %s\n", step, call, fault, code, pilot_code_name((int)code), error.message);
    failures++;
  }
}

static void write_some(int step, struct slot *slot) {
  size_t i, len = draw(PIECE + 1);
  long long n;
  for (i = 0; i < len; i++) bytes[i] = (unsigned char)(slot->written + i);
  n = pilot_stream_write(slot->handle, bytes, len, 0, &error);
  check(step, "write", slot, STREAM, n);
  if (n > 0) slot->written = (unsigned char)(slot->written + n);
}

static void read_some(int step, struct slot *slot) {
  long long i, n = pilot_stream_read(slot->handle, bytes, 1 + draw(PIECE), 0, &error);
  check(step, "read", slot, STREAM, n);
  for (i = 0; i < n; i++) {
    if (bytes[i] != slot->read) {
      fprintf(stderr, "step %d: byte %u where %u was written\n", step, bytes[i], slot->read);
      failures++;
      return;
    }
    slot->read++;
  }
}

static void step(int number) {
  static const char *const names[] = {"bad-a", "bad-b"};
  struct slot *slot = &slots[draw(SLOTS)];
  struct slot *node = draw(8) == 0 ? slot : &slots[draw(2)];
  const char *peer = names[node == &slots[0]];
  pilot_event event;
  long long code;
  switch (draw(14)) {
    case 0:
      code = pilot_listen(node->handle, (uint16_t)(7000 + draw(3)), &error);
      check(number, "listen", node, NODE, code);
      keep(code, LISTENER);
      break;
    case 1:
    case 2:
      code = pilot_stream_connect(node->handle, peer, (uint16_t)(7000 + draw(3)), (int)draw(20), &error);
      check(number, "connect", node, NODE, code);
      keep(code, STREAM);
      break;
    case 3:
      code = pilot_stream_accept(slot->handle, (int)draw(5), NULL, &error);
      check(number, "accept", slot, LISTENER, code);
      keep(code, STREAM);
      break;
    case 4:
      code = pilot_accept(slot->handle, 0, NULL, &error);
      check(number, "accept a descriptor", slot, LISTENER, code);
      if (code >= 0) close((int)code);
      break;
    case 5:
    case 6:
      write_some(number, slot);
      break;
    case 7:
    case 8:
      read_some(number, slot);
      break;
    case 9:
      check(number, "shutdown", slot, STREAM, pilot_stream_shutdown(slot->handle, (int)draw(3), &error));
      break;
    case 10:
      if (draw(2) == 0) {
        check(number, "abort", slot, STREAM, pilot_stream_abort(slot->handle, &error));
      } else {
        check(number, "event_fd", slot, STREAM, pilot_stream_event_fd(slot->handle, &error));
      }
      break;
    case 11:
      if (draw(2) == 0) {
        code = pilot_watch(node->handle, NULL, &error);
        check(number, "watch", node, NODE, code);
        keep(code, WATCH);
      } else {
        memset(&event, 0, sizeof event);
        event.struct_size = sizeof event;
        check(number, "next_event", slot, WATCH, pilot_next_event(slot->handle, &event, 0, &error));
      }
      break;
    case 12:
      if (draw(2) == 0) {
        code = pilot_connect_start(node->handle, peer, (uint16_t)(7000 + draw(3)), &error);
        check(number, "connect_start", node, NODE, code);
        keep(code, CONNECT);
      } else {
        code = pilot_connect_finish(slot->handle, 0, NULL, &error);
        check(number, "connect_finish", slot, CONNECT, code);
        if (code >= 0) close((int)code);
      }
      break;
    default:
      if (slot < &slots[2]) break; /* The nodes stay to the end. */
      EXPECT(pilot_close(slot->handle), slot->is_open ? 0 : PILOT_E_CLOSED);
      slot->is_open = 0;
  }
}

int main(int argc, char **argv) {
  int i;
  char answer[4096];
  if (argc != 5) return 2;
  state = strtoull(argv[4], NULL, 10) * 0x9e3779b97f4a7c15ULL + 1;
  pair(argv, &slots[0].handle, &slots[1].handle);
  for (i = 0; i < 2; i++) {
    slots[i].kind = NODE;
    slots[i].is_open = 1;
  }
  for (i = 0; i < STEPS && failures == 0; i++) step(i);
  /* Both nodes still answer, and everything can be closed once. */
  for (i = 0; i < 2; i++) {
    must("info", pilot_call(slots[i].handle, "{\"op\":\"info\"}", NULL, 0, answer, sizeof answer, &error));
  }
  for (i = SLOTS - 1; i >= 0; i--) {
    EXPECT(pilot_close(slots[i].handle), slots[i].is_open ? 0 : PILOT_E_CLOSED);
  }
  if (failures == 0) printf("ok\n");
  return failures != 0;
}
