package pilot

/*
#include <pilot.h>
*/
import "C"

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// Conn is a stream: a [net.Conn] with the methods CloseWrite and CloseRead of [net.TCPConn].
//
// Read returns [io.EOF] only when the peer has ended its side in order; a stream that broke returns an [Error], which is
// ECONNRESET where the peer has reset the stream. When the program dies before Close, the peer sees a reset.
type Conn struct {
	socket        *net.UnixConn
	node          *Node
	local, remote *Addr
	resets        atomic.Bool
}

// duplicate puts a copy of a descriptor into Go's poller.
func duplicate(fd int) (*os.File, error) {
	copied, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_DUPFD_CLOEXEC, 0)
	if errno != 0 {
		return nil, os.NewSyscallError("fcntl", errno)
	}
	if err := syscall.SetNonblock(int(copied), true); err != nil {
		syscall.Close(int(copied))
		return nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(copied, "pilot"), nil
}

// socketOf takes ownership of a descriptor.
func socketOf(fd int) (*net.UnixConn, error) {
	file := os.NewFile(uintptr(fd), "pilot")
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, err
	}
	return conn.(*net.UnixConn), nil
}

func (n *Node) newConn(fd int, remote *Addr, port uint16) (*Conn, error) {
	socket, err := socketOf(fd)
	if err != nil {
		return nil, err
	}
	return &Conn{socket: socket, node: n, local: n.local(port), remote: remote}, nil
}

func (c *Conn) fail(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	// The error is the reason alone, without the name of the socket below the stream.
	var inner *net.OpError
	if errors.As(err, &inner) {
		err = inner.Err
	}
	return &net.OpError{Op: op, Net: "pilot", Source: c.local, Addr: c.remote, Err: err}
}

// Read reads the bytes that have arrived, and waits for the first one.
func (c *Conn) Read(b []byte) (int, error) {
	n, err := c.socket.Read(b)
	if err == io.EOF || errors.Is(err, syscall.ECONNRESET) {
		err = c.ending(err)
	}
	return n, c.fail("read", err)
}

// ending tells the peer's orderly end from a stream that broke, and why it broke.
func (c *Conn) ending(ended error) error {
	slow <- struct{}{}
	defer func() { <-slow }()
	if err := c.call(func(fd C.int, e *C.pilot_error) C.int { return C.pilot_stream_end(c.node.handle, fd, e) }); err != nil {
		return err
	}
	return ended
}

// call makes a call of C with the descriptor.
func (c *Conn) call(f func(fd C.int, e *C.pilot_error) C.int) error {
	raw, err := c.socket.SyscallConn()
	if err != nil {
		return err
	}
	e, result := newCall(), int64(0)
	if err := raw.Control(func(fd uintptr) { result = int64(f(C.int(fd), &e.c)) }); err != nil {
		return err
	}
	return e.err(result)
}

// finish tells the node that the end of this side, which follows, is meant.
func (c *Conn) finish() error {
	return c.call(func(fd C.int, e *C.pilot_error) C.int { return C.pilot_finish(c.node.handle, fd, e) })
}

// Write writes all bytes and waits for room.
func (c *Conn) Write(b []byte) (int, error) {
	n, err := c.socket.Write(b)
	return n, c.fail("write", err)
}

// Close closes the stream; written bytes are delivered. When the peer's bytes were not all read, or arrive later, the peer sees
// a reset after them.
func (c *Conn) Close() error {
	// A node that has ended has ended the stream.
	if c.resets.Load() {
		c.call(func(fd C.int, e *C.pilot_error) C.int { return C.pilot_abort(c.node.handle, fd, e) })
	} else {
		c.finish()
	}
	return c.fail("close", c.socket.Close())
}

// SetLinger sets what Close does, as [net.TCPConn.SetLinger]: with 0 it drops what was not delivered, and resets the stream.
// Every other value means that written bytes are delivered while the program goes on; Close never waits.
func (c *Conn) SetLinger(sec int) error {
	c.resets.Store(sec == 0)
	return nil
}

// CloseWrite ends this side: the peer reads the end after all written bytes.
func (c *Conn) CloseWrite() error {
	if err := c.finish(); err != nil {
		return c.fail("close", err)
	}
	return c.fail("close", c.socket.CloseWrite())
}

// CloseRead ends reading.
func (c *Conn) CloseRead() error { return c.fail("close", c.socket.CloseRead()) }

// LocalAddr returns the address of this node.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr returns the address of the peer: an [Addr] with its hostname.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline implements [net.Conn].
func (c *Conn) SetDeadline(t time.Time) error { return c.fail("set", c.socket.SetDeadline(t)) }

// SetReadDeadline implements [net.Conn].
func (c *Conn) SetReadDeadline(t time.Time) error { return c.fail("set", c.socket.SetReadDeadline(t)) }

// SetWriteDeadline implements [net.Conn].
func (c *Conn) SetWriteDeadline(t time.Time) error {
	return c.fail("set", c.socket.SetWriteDeadline(t))
}

// SyscallConn returns access to the descriptor.
func (c *Conn) SyscallConn() (syscall.RawConn, error) { return c.socket.SyscallConn() }
