package pilot

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"syscall"
)

// prefixLen is the length of the length of a packet on a stream socket, in bytes.
const prefixLen = 2

// framed keeps packets apart on a stream socket, for systems whose Unix sockets cannot: each packet follows its length. A
// deadline may pass within a packet; the next call goes on there.
type framed struct {
	socket           net.Conn
	reading, writing sync.Mutex
	in               *bufio.Reader
	// rest is what is still to be written of the packet before.
	rest []byte
}

// packetsOf returns what reads and writes whole packets on a socket.
func packetsOf(socket *net.UnixConn) io.ReadWriter {
	if addr := socket.LocalAddr(); addr != nil && addr.Network() == "unixpacket" {
		return socket
	}
	return newFramed(socket)
}

func newFramed(socket net.Conn) *framed {
	return &framed{socket: socket, in: bufio.NewReaderSize(socket, prefixLen+packetLenMax)}
}

// Read takes the next packet, cut to the buffer; it returns 0 when the node has ended.
func (f *framed) Read(b []byte) (int, error) {
	f.reading.Lock()
	defer f.reading.Unlock()
	for {
		packet, err := f.in.Peek(prefixLen)
		if err == nil {
			packet, err = f.in.Peek(prefixLen + int(binary.BigEndian.Uint16(packet)))
		}
		if err == io.EOF {
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
		n := copy(b, packet[prefixLen:])
		if discarded, _ := f.in.Discard(len(packet)); discarded > prefixLen {
			return n, nil
		}
	}
}

// Write writes a packet whole or not at all.
func (f *framed) Write(b []byte) (int, error) {
	if len(b) > packetLenMax {
		return 0, syscall.EMSGSIZE
	}
	f.writing.Lock()
	defer f.writing.Unlock()
	if len(f.rest) > 0 {
		n, err := f.socket.Write(f.rest)
		f.rest = f.rest[n:]
		if err != nil {
			return 0, err
		}
	}
	packet := append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
	n, err := f.socket.Write(packet)
	if n == 0 && err != nil {
		return 0, err
	}
	f.rest = packet[n:]
	return len(b), nil
}
