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
	"syscall"
	"time"
)

// Conn is a stream: a [net.Conn] with the methods CloseWrite and CloseRead of [net.TCPConn].
//
// Read returns [io.EOF] only when the peer has ended its side in order; a stream that broke returns an [Error].
type Conn struct {
	socket        *net.UnixConn
	node          *Node
	local, remote *Addr
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
	if err == io.EOF {
		err = c.ending()
	}
	return n, c.fail("read", err)
}

// ending tells the peer's orderly end from a stream that broke.
func (c *Conn) ending() error {
	raw, err := c.socket.SyscallConn()
	if err != nil {
		return err
	}
	e, end := newCall(), int64(0)
	slow <- struct{}{}
	defer func() { <-slow }()
	if err := raw.Control(func(fd uintptr) { end = int64(C.pilot_stream_end(c.node.handle, C.int(fd), &e.c)) }); err != nil {
		return err
	}
	if err := e.err(end); err != nil {
		return err
	}
	return io.EOF
}

// Write writes all bytes and waits for room.
func (c *Conn) Write(b []byte) (int, error) {
	n, err := c.socket.Write(b)
	return n, c.fail("write", err)
}

// Close closes the stream; written bytes are delivered.
func (c *Conn) Close() error { return c.fail("close", c.socket.Close()) }

// CloseWrite ends this side: the peer reads the end after all written bytes.
func (c *Conn) CloseWrite() error { return c.fail("close", c.socket.CloseWrite()) }

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
