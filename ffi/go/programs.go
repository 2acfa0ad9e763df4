package pilot

/*
#include <stdlib.h>
#include <pilot.h>
*/
import "C"

import (
	"strings"
	"sync"
	"unsafe"
)

// SetUp is a forward or an expose, which ends when it is closed. Connections that stand then go on.
type SetUp struct {
	handle C.pilot_handle
	listen string
	once   sync.Once
}

// Forward lets programs of this machine reach a peer's port by a listener, "[HOST:]PORT" (loopback without a host, any free
// port with 0) or "unix:PATH", until the result is closed. [SetUp.Listen] tells the address that is bound.
func (n *Node) Forward(listen, peer string, port uint16) (*SetUp, error) {
	slow <- struct{}{}
	defer func() { <-slow }()
	at, to := C.CString(listen), C.CString(peer)
	defer C.free(unsafe.Pointer(at))
	defer C.free(unsafe.Pointer(to))
	e, bound := newCall(), make([]byte, 256)
	handle := C.pilot_forward(n.handle, at, to, C.uint16_t(port), (*C.char)(unsafe.Pointer(&bound[0])), C.size_t(len(bound)), &e.c)
	if err := e.err(int64(handle)); err != nil {
		return nil, err
	}
	return &SetUp{handle: handle, listen: C.GoString((*C.char)(unsafe.Pointer(&bound[0])))}, nil
}

// ExposeOptions tells how a program learns which peer has come.
type ExposeOptions struct {
	HTTP          bool     // the program speaks HTTP/1 and is told the peer in headers
	A2A           bool     // with HTTP: an A2A agent's card names the address that its caller used
	ProxyProtocol bool     // the program is told the peer by the PROXY protocol, version 2
	Nodes         []string // the only peers that may come; nil: all that trust lets in
}

// Expose lets peers reach a program at a port of this node until the result is closed. target is where the program listens:
// "PORT" on this machine, "HOST:PORT" or "unix:PATH".
func (n *Node) Expose(port uint16, target string, options ExposeOptions) (*SetUp, error) {
	slow <- struct{}{}
	defer func() { <-slow }()
	to := C.CString(target)
	defer C.free(unsafe.Pointer(to))
	var nodes *C.char
	if options.Nodes != nil {
		nodes = C.CString(strings.Join(options.Nodes, ","))
		defer C.free(unsafe.Pointer(nodes))
	}
	flags := C.int(0)
	for flag, is := range map[C.int]bool{C.PILOT_HTTP: options.HTTP, C.PILOT_A2A: options.A2A, C.PILOT_PROXY_PROTOCOL: options.ProxyProtocol} {
		if is {
			flags |= flag
		}
	}
	e := newCall()
	handle := C.pilot_expose(n.handle, C.uint16_t(port), to, flags, nodes, &e.c)
	if err := e.err(int64(handle)); err != nil {
		return nil, err
	}
	return &SetUp{handle: handle}, nil
}

// Listen returns the address of a forward's listener: "ADDRESS:PORT" or "unix:PATH".
func (s *SetUp) Listen() string { return s.listen }

// Close ends the forward or expose.
func (s *SetUp) Close() error {
	s.once.Do(func() { C.pilot_close(s.handle) })
	return nil
}
