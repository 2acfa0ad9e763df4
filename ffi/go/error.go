package pilot

/*
#cgo pkg-config: pilot
#include <pilot.h>
*/
import "C"

import (
	"net"
	"os"
	"syscall"
)

// Code is the kind of an [Error]: a PILOT_E_ constant of pilot.h.
type Code int

// Codes of errors.
const (
	Internal    Code = C.PILOT_E_INTERNAL
	Invalid     Code = C.PILOT_E_INVALID
	NotRunning  Code = C.PILOT_E_NOT_RUNNING
	NotFound    Code = C.PILOT_E_NOT_FOUND
	NotTrusted  Code = C.PILOT_E_NOT_TRUSTED
	TimedOut    Code = C.PILOT_E_TIMEOUT
	Unreachable Code = C.PILOT_E_UNREACHABLE
	Conflict    Code = C.PILOT_E_CONFLICT
	Refused     Code = C.PILOT_E_REFUSED
	Reset       Code = C.PILOT_E_RESET
	Full        Code = C.PILOT_E_FULL
	WouldBlock  Code = C.PILOT_E_WOULD_BLOCK
	Closed      Code = C.PILOT_E_CLOSED
	WrongKind   Code = C.PILOT_E_WRONG_KIND
	Forked      Code = C.PILOT_E_FORKED
)

// Error is a failure with its reason and a hint. It is a [net.Error], and unwraps to the errors that programs compare with:
// [os.ErrDeadlineExceeded], [net.ErrClosed], [os.ErrPermission], [os.ErrNotExist], ECONNREFUSED, ECONNRESET,
// EHOSTUNREACH, EADDRINUSE.
type Error struct {
	Code    Code
	Message string // the reason
	Hint    string // advice for the next step, or empty
}

func (e *Error) Error() string {
	if e.Hint == "" {
		return "pilot: " + e.Message
	}
	return "pilot: " + e.Message + " (" + e.Hint + ")"
}

// Timeout tells whether the time limit has passed.
func (e *Error) Timeout() bool { return e.Code == TimedOut }

// Temporary implements [net.Error].
func (e *Error) Temporary() bool { return e.Code == TimedOut || e.Code == WouldBlock }

func (e *Error) Unwrap() error {
	switch e.Code {
	case TimedOut:
		return os.ErrDeadlineExceeded
	case Closed, NotRunning:
		return net.ErrClosed
	case NotTrusted:
		return os.ErrPermission
	case NotFound:
		return os.ErrNotExist
	case Refused:
		return syscall.ECONNREFUSED
	case Reset:
		return syscall.ECONNRESET
	case Unreachable:
		return syscall.EHOSTUNREACH
	case Conflict:
		return syscall.EADDRINUSE
	}
	return nil
}

// call holds the struct that C writes a failure into.
type call struct{ c C.pilot_error }

func newCall() *call {
	e := new(call)
	e.c.struct_size = C.sizeof_pilot_error
	return e
}

// err returns the failure of a call; nil for a value that is not negative.
func (e *call) err(value int64) error {
	if value >= 0 {
		return nil
	}
	return &Error{Code: Code(value), Message: C.GoString(&e.c.message[0]), Hint: C.GoString(&e.c.hint[0])}
}
