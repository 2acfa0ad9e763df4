package pilot

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"
)

// chunks is a connection whose other end gives bytes in the parts that it was told.
func chunks(t *testing.T, parts ...string) net.Conn {
	ours, theirs := net.Pipe()
	t.Cleanup(func() { ours.Close() })
	go func() {
		for _, part := range parts {
			if _, err := theirs.Write([]byte(part)); err != nil {
				return
			}
		}
		theirs.Close()
	}()
	return ours
}

func TestFramedPacketsKeepTheirBoundaries(t *testing.T) {
	packets := newFramed(chunks(t, "\x00", "\x03on", "e\x00\x00\x00\x05th", "ree\x00\x04", "four"))
	buffer := make([]byte, 4)
	for _, expected := range []string{"one", "thre", "four", ""} {
		if n, err := packets.Read(buffer); err != nil || string(buffer[:n]) != expected {
			t.Fatal(err, string(buffer[:n]), expected)
		}
	}
}

func TestADeadlineWithinAFramedPacketLosesNothing(t *testing.T) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	near, far := newFramed(ours), newFramed(theirs)
	buffer := make([]byte, 9)
	go theirs.Write([]byte("\x00\x05he"))
	ours.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := near.Read(buffer); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	ours.SetReadDeadline(time.Time{})
	go theirs.Write([]byte("llo"))
	if n, err := near.Read(buffer); err != nil || string(buffer[:n]) != "hello" {
		t.Fatal(err, buffer[:n])
	}

	// The other end takes the prefix, and the packet after the deadline.
	taken := make(chan error)
	go func() {
		_, err := far.in.Peek(prefixLen)
		taken <- err
	}()
	ours.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	sent := make(chan error)
	go func() {
		_, err := near.Write(make([]byte, packetLenMax))
		sent <- err
	}()
	if err := <-taken; err != nil {
		t.Fatal(err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	ours.SetWriteDeadline(time.Time{})
	go near.Write([]byte("next"))
	for _, expected := range []int{9, 4} {
		if n, err := far.Read(buffer); err != nil || n != expected {
			t.Fatal(err, n)
		}
	}
	if _, err := near.Write(make([]byte, packetLenMax+1)); err == nil {
		t.Error("no error")
	}
}
