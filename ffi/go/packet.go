package pilot

/*
#include <pilot.h>
*/
import "C"

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// headLen is the length of the address and port that each packet on the descriptor begins with, in bytes.
const headLen = 8

// packetLenMax is the length of the longest datagram that any path carries, with its head, in bytes.
const packetLenMax = 1<<16 - 1

// PacketConn is a port for datagrams, which may be lost. It is a [net.PacketConn]; addresses are [Addr].
//
// 1100 bytes always fit into a datagram; a datagram too long for the path is lost.
type PacketConn struct {
	socket *net.UnixConn
	// packets keeps packets apart, as the socket itself does where the system can.
	packets io.ReadWriter
	local   *Addr
}

var packets = sync.Pool{New: func() any { b := make([]byte, packetLenMax); return &b }}

// ListenPacket opens a port for datagrams; 0: any free one.
func (n *Node) ListenPacket(port uint16) (*PacketConn, error) {
	slow <- struct{}{}
	defer func() { <-slow }()
	e, bound := newCall(), C.uint16_t(0)
	fd := C.pilot_datagram_open(n.handle, C.uint16_t(port), &bound, &e.c)
	err := e.err(int64(fd))
	if err == nil {
		var socket *net.UnixConn
		if socket, err = socketOf(int(fd)); err == nil {
			return &PacketConn{socket: socket, packets: packetsOf(socket), local: n.local(uint16(bound))}, nil
		}
	}
	return nil, &net.OpError{Op: "listen", Net: "pilot", Addr: &Addr{Port: port}, Err: err}
}

// Resolve finds the address that "NODE:PORT" means.
func (n *Node) Resolve(addr string) (*Addr, error) {
	host, port, err := splitHostPort(addr)
	if err != nil {
		return nil, err
	}
	var found struct{ Address, Hostname string }
	if err := n.Call(FindRequest{host}, nil, &found); err != nil {
		return nil, err
	}
	a, err := ParseAddr(fmt.Sprintf("%s:%d", found.Address, port))
	if err != nil {
		return nil, err
	}
	a.Hostname = found.Hostname
	return a, nil
}

// ReadFrom takes the next datagram; one longer than the buffer is cut off.
func (p *PacketConn) ReadFrom(b []byte) (int, net.Addr, error) {
	room := packets.Get().(*[]byte)
	defer packets.Put(room)
	n, err := p.packets.Read(*room)
	if err != nil {
		return 0, nil, p.fail("read", nil, err)
	}
	if n < headLen {
		return 0, nil, p.fail("read", nil, net.ErrClosed)
	}
	head := (*room)[:headLen]
	from := &Addr{Net: binary.BigEndian.Uint16(head), Node: binary.BigEndian.Uint32(head[2:]), Port: binary.BigEndian.Uint16(head[6:])}
	return copy(b, (*room)[headLen:n]), from, nil
}

// WriteTo sends a datagram to an [Addr].
func (p *PacketConn) WriteTo(b []byte, addr net.Addr) (int, error) {
	to, ok := addr.(*Addr)
	if !ok {
		return 0, p.fail("write", addr, &Error{Code: Invalid, Message: fmt.Sprintf("%v is no address of a node", addr)})
	}
	if len(b) > packetLenMax-headLen {
		return 0, p.fail("write", addr, &Error{Code: Invalid, Message: fmt.Sprintf("%d bytes do not fit into a datagram", len(b))})
	}
	room := packets.Get().(*[]byte)
	defer packets.Put(room)
	packet := (*room)[:headLen+len(b)]
	binary.BigEndian.PutUint16(packet, to.Net)
	binary.BigEndian.PutUint32(packet[2:], to.Node)
	binary.BigEndian.PutUint16(packet[6:], to.Port)
	copy(packet[headLen:], b)
	if _, err := p.packets.Write(packet); err != nil {
		return 0, p.fail("write", addr, err)
	}
	return len(b), nil
}

func (p *PacketConn) fail(op string, addr net.Addr, err error) error {
	if inner, ok := err.(*net.OpError); ok {
		err = inner.Err
	}
	return &net.OpError{Op: op, Net: "pilot", Source: p.local, Addr: addr, Err: err}
}

// Close frees the port.
func (p *PacketConn) Close() error { return p.socket.Close() }

// LocalAddr returns this node's address with the port.
func (p *PacketConn) LocalAddr() net.Addr { return p.local }

// SetDeadline implements [net.PacketConn].
func (p *PacketConn) SetDeadline(t time.Time) error { return p.socket.SetDeadline(t) }

// SetReadDeadline implements [net.PacketConn].
func (p *PacketConn) SetReadDeadline(t time.Time) error { return p.socket.SetReadDeadline(t) }

// SetWriteDeadline implements [net.PacketConn].
func (p *PacketConn) SetWriteDeadline(t time.Time) error { return p.socket.SetWriteDeadline(t) }
