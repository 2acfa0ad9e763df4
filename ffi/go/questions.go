package pilot

/*
#include <stdlib.h>
#include <pilot.h>
*/
import "C"

import (
	"context"
	"strconv"
	"time"
	"unsafe"
)

// Message is a question in the inbox, or an answer. It stays on the node's disk until [Node.TakeMessage] takes its ID.
type Message struct {
	ID   uint64 // its number at this node
	Type string // "text", "json" or "binary"
	From *Addr  // the node that sent it
	Data []byte
}

// Ask asks a peer and waits for the answer until ctx is done. kind is "text", "json" or "binary"; after deadline, at most 7 days and
// 0 for 7 days, the question is not handed out any more. The question's id is also there when the error is that of ctx: the
// answer may come later, for [Node.WaitAnswer].
func (n *Node) Ask(ctx context.Context, peer, kind string, data []byte, deadline time.Duration) (question string, answer *Message, err error) {
	var asked struct {
		MessageID string `json:"message_id"`
	}
	one := uint64(1)
	request := AskRequest{Node: peer, Type: kind, TimeoutMs: &one, DeadlineS: uint64(max(deadline.Seconds(), 0))}
	if err := n.Call(request, data, &asked); err != nil {
		return "", nil, err
	}
	answer, err = n.WaitAnswer(ctx, asked.MessageID)
	return asked.MessageID, answer, err
}

// WaitAnswer waits for the answer to a question of this node until ctx is done.
func (n *Node) WaitAnswer(ctx context.Context, question string) (*Message, error) {
	id := C.CString(question)
	defer C.free(unsafe.Pointer(id))
	for {
		// The wait is cut into short pieces, because C does not know the context.
		answer, err := n.message(func(at *C.pilot_message, to *C.uint8_t, size C.size_t, e *C.pilot_error) C.int {
			return C.pilot_wait_answer(n.handle, id, 200, at, to, size, e)
		})
		if answer != nil || err != nil {
			return answer, err
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
}

// NextQuestion returns the oldest question of the inbox that waits for an answer and has a greater number, or nil.
func (n *Node) NextQuestion(after uint64) (*Message, error) {
	return n.message(func(at *C.pilot_message, to *C.uint8_t, size C.size_t, e *C.pilot_error) C.int {
		return C.pilot_next_question(n.handle, C.uint64_t(after), at, to, size, e)
	})
}

// Reply answers a question of the inbox and takes it away: both in one step on the disk. The same answer again changes nothing, and
// another one is an error with the code [Conflict].
func (n *Node) Reply(question uint64, kind string, data []byte) error {
	return n.Call(ReplyRequest{strconv.FormatUint(question, 10), kind}, data, nil)
}

// TakeMessage takes a message out of the inbox, or an answer that was dealt with.
func (n *Node) TakeMessage(id uint64) error {
	return n.Call(InboxTakeRequest{[]uint64{id}}, nil, nil)
}

// message calls read with room that suffices; nil when there is no message.
func (n *Node) message(read func(*C.pilot_message, *C.uint8_t, C.size_t, *C.pilot_error) C.int) (*Message, error) {
	slow <- struct{}{}
	defer func() { <-slow }()
	var at C.pilot_message
	for size := 64 << 10; ; size = int(at.len) {
		e, room := newCall(), make([]byte, size)
		at.struct_size = C.sizeof_pilot_message
		code := read(&at, (*C.uint8_t)(unsafe.Pointer(&room[0])), C.size_t(size), &e.c)
		if code == C.PILOT_E_FULL && int(at.len) > size {
			continue
		}
		if err := e.err(int64(code)); err != nil || code == 0 {
			return nil, err
		}
		kind := map[C.int]string{C.PILOT_TEXT: "text", C.PILOT_JSON: "json", C.PILOT_BINARY: "binary"}[at.kind]
		return &Message{uint64(at.id), kind, fromPeer(&at.from), room[:at.len]}, nil
	}
}
