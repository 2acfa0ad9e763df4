package pilot

/*
#include <stdlib.h>
#include <pilot.h>
*/
import "C"

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// Config has the settings of a node of this process.
type Config struct {
	Home       string // folder for identity and books; required
	Hostname   string // hostname to register; empty: the one registered before, if any
	Rendezvous string // KEY@host:port; empty: none
	Socket     string // Unix socket to serve for other programs; empty: none
	Listen     string // ADDRESS:PORT for UDP; empty: any
	RingLenMax int    // largest ring of a stream in each direction, in bytes; 0: 32 MiB
	Services   bool   // answer on ports 7, 1000, 1001 and 1002 as the daemon does
}

// Node is a node of this process, or the daemon. Its methods may be called from any goroutine.
type Node struct {
	handle C.pilot_handle
	addr   Addr
	once   sync.Once
	err    error
}

// slow bounds the number of concurrent calls to C: a call that takes longer than microseconds holds a thread.
var slow = make(chan struct{}, 8)

// Start starts a node in this process.
func Start(config Config) (*Node, error) {
	var given C.pilot_config
	given.struct_size = C.sizeof_pilot_config
	var texts []*C.char
	text := func(s string) *C.char {
		if s == "" {
			return nil
		}
		c := C.CString(s)
		texts = append(texts, c)
		return c
	}
	given.home, given.hostname, given.rendezvous = text(config.Home), text(config.Hostname), text(config.Rendezvous)
	given.socket, given.listen = text(config.Socket), text(config.Listen)
	given.stream_ring_len_max = C.size_t(config.RingLenMax)
	if config.Services {
		given.services = 1
	}
	e := newCall()
	handle := C.pilot_node_start(&given, &e.c)
	for _, c := range texts {
		C.free(unsafe.Pointer(c))
	}
	return newNode(handle, e)
}

// Attach uses the daemon that serves this Unix socket; "": the socket at the usual place.
func Attach(socket string) (*Node, error) {
	var path *C.char
	if socket != "" {
		path = C.CString(socket)
		defer C.free(unsafe.Pointer(path))
	}
	e := newCall()
	return newNode(C.pilot_attach(path, &e.c), e)
}

func newNode(handle C.pilot_handle, e *call) (*Node, error) {
	if err := e.err(int64(handle)); err != nil {
		return nil, err
	}
	// A connection of a program that dies without Close is reset.
	if e := newCall(); C.pilot_end_explicitly(handle, &e.c) < 0 {
		C.pilot_close(handle)
		return nil, e.err(-1)
	}
	n := &Node{handle: handle}
	runtime.SetFinalizer(n, func(n *Node) { n.Close() })
	return n, nil
}

// Close ends a node of this process in order, and its streams with it.
func (n *Node) Close() error {
	n.once.Do(func() {
		runtime.SetFinalizer(n, nil)
		if code := C.pilot_close(n.handle); code < 0 {
			n.err = &Error{Code: Code(code), Message: "the node was closed before"}
		}
	})
	return n.err
}

// Call makes one request of the node, for everything that has no method of its own; data goes beside it, and the JSON of the
// answer is unmarshalled into answer, which may be nil.
func (n *Node) Call(request Request, data []byte, answer any) error {
	operation, err := encode(request)
	if err != nil {
		return err
	}
	slow <- struct{}{}
	defer func() { <-slow }()
	c := C.CString(string(operation))
	defer C.free(unsafe.Pointer(c))
	for size := 64 << 10; ; {
		e, room := newCall(), make([]byte, size)
		var given *C.uint8_t
		if len(data) > 0 {
			given = (*C.uint8_t)(unsafe.Pointer(&data[0]))
		}
		len := int64(C.pilot_call(n.handle, c, given, C.size_t(len(data)), (*C.char)(unsafe.Pointer(&room[0])), C.size_t(size), &e.c))
		if err := e.err(len); err != nil {
			return err
		}
		if len < int64(size) {
			if answer == nil {
				return nil
			}
			return json.Unmarshal(room[:len], answer)
		}
		size = int(len) + 4096
	}
}

// Info is the state of a node, as [Node.Info] returns it.
type Info struct {
	Address     string `json:"address"`
	NodeID      uint32 `json:"node_id"`
	Hostname    string `json:"hostname"`
	Fingerprint string `json:"fingerprint"`
	Rendezvous  string `json:"rendezvous"`
	Trusted     int    `json:"trusted"`
	Version     string `json:"version"`
}

// Info returns the node's state.
func (n *Node) Info() (info Info, err error) {
	return info, n.Call(InfoRequest{}, nil, &info)
}

// Handshake asks a node's owner for trust.
func (n *Node) Handshake(peer, note string) error {
	return n.Call(HandshakeRequest{Node: peer, Note: note}, nil, nil)
}

// Approve approves a request for trust. ports are the ports of this node that the peer may reach: "1000,8080", "all", or
// "" for 7,1000,1001,1002.
func (n *Node) Approve(peer, ports string) error {
	return n.Call(ApproveRequest{Node: peer, Ports: ports}, nil, nil)
}

// SetQuota bounds how much of this node a trusted peer may use: "memory=64MB,streams=1000,disk=1GB,messages=10000/day" or some
// of these; "default" takes back what was said before.
func (n *Node) SetQuota(peer, quota string) error {
	return n.Call(GrantRequest{Node: peer, Quota: quota}, nil, nil)
}

// WaitTrust waits until a peer is trusted.
func (n *Node) WaitTrust(ctx context.Context, peer string) error {
	for {
		var answer struct{ Trusted bool }
		// The wait is cut into short pieces, because C does not know the context.
		if err := n.Call(WaitTrustRequest{peer, 200}, nil, &answer); err != nil || answer.Trusted {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// Invite makes a code by which one other node becomes a trusted peer at once, within an hour. ports are as in [Node.Approve].
// [InviteRequest] has more choices.
func (n *Node) Invite(ports string) (code string, err error) {
	var answer struct{ Code string }
	err = n.Call(InviteRequest{Ports: ports}, nil, &answer)
	return answer.Code, err
}

// Join makes a trusted peer of the node that has made a code, and waits for it, at most timeout; 0 is a minute. After that
// the request stands.
func (n *Node) Join(code string, timeout time.Duration) error {
	return n.Call(JoinRequest{Code: code, TimeoutMs: uint64(timeout.Milliseconds())}, nil, nil)
}

// SendMessage puts a message into a peer's inbox and returns when the peer has it on its disk. kind is "text", "json" or
// "binary". When the peer cannot be reached in time the message waits in the outbox, and the error's code is [Unreachable].
func (n *Node) SendMessage(peer, kind string, data []byte, timeout time.Duration) error {
	ms := timeout.Milliseconds()
	if ms == 0 {
		ms = 1 // a zero field is absent, and means ten seconds
	}
	return n.Call(SendMessageRequest{Node: peer, Type: kind, TimeoutMs: uint64(max(ms, 0))}, data, nil)
}

// waiter is a handle of C with a descriptor that is readable when a call may make progress.
type waiter struct {
	handle C.pilot_handle
	file   *os.File // a duplicate of the descriptor, in Go's poller
	once   sync.Once
	closed atomic.Bool
}

func newWaiter(handle C.pilot_handle, fd C.int, e *call) (*waiter, error) {
	if err := e.err(int64(fd)); err != nil {
		C.pilot_close(handle)
		return nil, err
	}
	file, err := duplicate(int(fd))
	if err != nil {
		C.pilot_close(handle)
		return nil, err
	}
	return &waiter{handle: handle, file: file}, nil
}

func (w *waiter) close() {
	w.once.Do(func() {
		w.closed.Store(true)
		slow <- struct{}{}
		C.pilot_close(w.handle)
		<-slow
		w.file.Close()
	})
}

// wait calls ask until ask need not wait.
func (w *waiter) wait(ask func() (int64, error)) (int64, error) {
	raw, err := w.file.SyscallConn()
	if err != nil {
		return 0, net.ErrClosed
	}
	var value int64
	var failure error
	err = raw.Read(func(uintptr) bool {
		slow <- struct{}{}
		value, failure = ask()
		<-slow
		e, ok := failure.(*Error)
		return !(ok && e.Code == WouldBlock)
	})
	if err != nil && w.closed.Load() {
		return 0, net.ErrClosed
	}
	if err != nil {
		return 0, err
	}
	return value, failure
}

// Dial opens a stream to "NODE:PORT", where NODE is a hostname, an address, a node number or a key of a trusted peer.
func (n *Node) Dial(ctx context.Context, addr string) (*Conn, error) {
	return n.DialWith(ctx, addr, nil)
}

// DialWith opens a stream as [Node.Dial] does and writes first into it. Up to 1024 bytes travel with the request for the
// stream, so a question and its answer take one round trip instead of two. A peer that refuses the stream never sees these
// bytes. When the peer restarts meanwhile, the stream ends with an error: the process before may have read the bytes.
func (n *Node) DialWith(ctx context.Context, addr string, first []byte) (*Conn, error) {
	early := first[:min(len(first), C.PILOT_FIRST_MAX)]
	conn, err := n.dial(ctx, addr, early)
	if err == nil && len(early) < len(first) {
		if _, err = conn.Write(first[len(early):]); err != nil {
			conn.Close()
		}
	}
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: "pilot", Addr: name(addr), Err: err}
	}
	return conn, nil
}

// DialContext is [Node.Dial] in the form of net/http and gRPC; the network is ignored.
func (n *Node) DialContext(ctx context.Context, _, addr string) (net.Conn, error) {
	conn, err := n.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	return conn, nil
}

func (n *Node) dial(ctx context.Context, addr string, first []byte) (*Conn, error) {
	host, port, err := splitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	e, peer := newCall(), C.CString(host)
	slow <- struct{}{}
	bytes := (*C.uint8_t)(unsafe.SliceData(first))
	handle := C.pilot_connect_start_with(n.handle, peer, C.uint16_t(port), bytes, C.size_t(len(first)), &e.c)
	<-slow
	C.free(unsafe.Pointer(peer))
	if err := e.err(int64(handle)); err != nil {
		return nil, err
	}
	w, err := newWaiter(handle, C.pilot_connect_fd(handle, &e.c), e)
	if err != nil {
		return nil, err
	}
	defer w.close()
	stop := context.AfterFunc(ctx, func() { w.file.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	at := newPeer()
	fd, err := w.wait(func() (int64, error) {
		e := newCall()
		fd := int64(C.pilot_connect_finish(handle, 0, &at, &e.c))
		return fd, e.err(fd)
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, err
	}
	return n.newConn(int(fd), fromPeer(&at), 0)
}

// name is an address that is not resolved yet.
type name string

func (a name) Network() string { return "pilot" }
func (a name) String() string  { return string(a) }

// local returns this node's address with a port.
func (n *Node) local(port uint16) *Addr {
	n.addrOnce()
	a := n.addr
	a.Port = port
	return &a
}

var addrLock sync.Mutex

func (n *Node) addrOnce() {
	addrLock.Lock()
	defer addrLock.Unlock()
	if n.addr.Node != 0 {
		return
	}
	if info, err := n.Info(); err == nil {
		if a, err := ParseAddr(info.Address + ":0"); err == nil {
			n.addr, n.addr.Hostname = *a, info.Hostname
		}
	}
}
