package pilot

/*
#include <pilot.h>
*/
import "C"

import (
	"net"
	"time"
)

// Listener accepts streams on a port from peers that were granted the port. It is a [net.Listener].
type Listener struct {
	node *Node
	port uint16
	w    *waiter
}

// Listen binds a port until the Listener is closed.
func (n *Node) Listen(port uint16) (*Listener, error) {
	slow <- struct{}{}
	defer func() { <-slow }()
	e := newCall()
	handle := C.pilot_listen(n.handle, C.uint16_t(port), &e.c)
	err := e.err(int64(handle))
	if err == nil {
		var w *waiter
		if w, err = newWaiter(handle, C.pilot_listener_fd(handle, &e.c), e); err == nil {
			return &Listener{node: n, port: port, w: w}, nil
		}
	}
	return nil, &net.OpError{Op: "listen", Net: "pilot", Addr: &Addr{Port: port}, Err: err}
}

// Accept waits for the next stream.
func (l *Listener) Accept() (net.Conn, error) {
	c, err := l.AcceptPilot()
	if err != nil {
		return nil, err
	}
	return c, nil
}

// AcceptPilot is Accept with the stream's own type.
func (l *Listener) AcceptPilot() (*Conn, error) {
	from := newPeer()
	fd, err := l.w.wait(func() (int64, error) {
		e := newCall()
		fd := int64(C.pilot_accept(l.w.handle, 0, &from, &e.c))
		return fd, e.err(fd)
	})
	if err == nil {
		return l.node.newConn(int(fd), fromPeer(&from), l.port)
	}
	return nil, &net.OpError{Op: "accept", Net: "pilot", Addr: l.Addr(), Err: err}
}

// SetDeadline sets the time at which a waiting Accept fails.
func (l *Listener) SetDeadline(t time.Time) error { return l.w.file.SetReadDeadline(t) }

// Close frees the port; an Accept that waits fails with [net.ErrClosed].
func (l *Listener) Close() error {
	l.w.close()
	return nil
}

// Addr returns this node's address with the port.
func (l *Listener) Addr() net.Addr { return l.node.local(l.port) }
