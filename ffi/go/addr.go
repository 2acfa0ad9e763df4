package pilot

/*
#include <pilot.h>
*/
import "C"

import (
	"fmt"
	"strconv"
	"strings"
)

// Addr is the address of a port of a node. It is a [net.Addr].
type Addr struct {
	Net      uint16 // network; 0 is the common one
	Node     uint32
	Port     uint16
	Hostname string // hostname of the node; empty when unknown
}

// Network returns "pilot".
func (a *Addr) Network() string { return "pilot" }

// String returns the address in the form "0:0000.0001.F00D:1000".
func (a *Addr) String() string { return fmt.Sprintf("%s:%d", a.host(), a.Port) }

func (a *Addr) host() string {
	return fmt.Sprintf("%d:%04X.%04X.%04X", a.Net, a.Net, a.Node>>16, a.Node&0xffff)
}

// ParseAddr parses the form that [Addr.String] returns.
func ParseAddr(text string) (*Addr, error) {
	a := new(Addr)
	var network uint16
	var high, low uint16
	host, port, err := splitHostPort(text)
	if err == nil {
		_, err = fmt.Sscanf(host, "%d:%04X.%04X.%04X", &a.Net, &network, &high, &low)
	}
	if err != nil || network != a.Net {
		return nil, &Error{Code: Invalid, Message: fmt.Sprintf("%q is not an address with a port", text)}
	}
	a.Node, a.Port = uint32(high)<<16|uint32(low), port
	return a, nil
}

// splitHostPort splits at the last colon, since addresses of nodes contain a colon.
func splitHostPort(text string) (string, uint16, error) {
	at := strings.LastIndexByte(text, ':')
	if at > 0 {
		if port, err := strconv.ParseUint(text[at+1:], 10, 16); err == nil {
			return text[:at], uint16(port), nil
		}
	}
	return "", 0, &Error{Code: Invalid, Message: fmt.Sprintf("%q is not NODE:PORT", text)}
}

func newPeer() C.pilot_peer {
	var peer C.pilot_peer
	peer.struct_size = C.sizeof_pilot_peer
	return peer
}

func fromPeer(peer *C.pilot_peer) *Addr {
	hostname := C.GoString(&peer.hostname[0])
	return &Addr{Net: uint16(peer.network), Node: uint32(peer.node), Port: uint16(peer.port), Hostname: hostname}
}
