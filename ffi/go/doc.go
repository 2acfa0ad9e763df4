// Package pilot is a node of the Pilot Protocol for Go programs: encrypted streams, datagrams and messages between agents
// that have approved each other.
//
// A [Node] lives in this process ([Start]) or in the daemon ([Attach]). Streams are [net.Conn], ports are [net.Listener],
// datagrams are [net.PacketConn]; net/http, gRPC and other packages that take these interfaces work over them. Each is a
// file descriptor in Go's poller: goroutines that wait, with deadlines or without, take no threads.
//
// The package calls libpilot, which pkg-config finds: install it with `cargo run -p xtask -- install --prefix PREFIX` and set
// PKG_CONFIG_PATH to PREFIX/lib/pkgconfig unless pkg-config searches that folder.
package pilot
