package errdefs

import (
	"context"
	"errors"
	"fmt"
)

// Kind says what sort of failure an error is. It implements error so that
// errors.Is(err, errdefs.NotFound) works.
type Kind uint8

// The kinds; STYLE and the tables in server/status.go give their translation.
const (
	Internal       Kind = iota // not classified: our fault
	Invalid                    // a request that can never succeed as written
	Unauthorized               // credentials missing or refused
	Forbidden                  // understood and refused by policy
	NotFound                   // the named object does not exist
	Conflict                   // the object is in the wrong state, or a name is taken
	NotModified                // already in the wanted state
	Exhausted                  // a disk, an address pool or a limit is used up
	Unavailable                // a peer or a part of the engine is not there now
	NotImplemented             // outside what this engine does (yet)
	Canceled                   // the caller went away
	Deadline                   // time ran out
	DataLoss                   // stored or received data is not what it claims to be
)

var names = [...]string{
	Internal: "internal", Invalid: "invalid", Unauthorized: "unauthorized", Forbidden: "forbidden",
	NotFound: "not found", Conflict: "conflict", NotModified: "not modified", Exhausted: "exhausted",
	Unavailable: "unavailable", NotImplemented: "not implemented", Canceled: "canceled",
	Deadline: "deadline exceeded", DataLoss: "data loss",
}

// Error returns the kind's name.
func (k Kind) Error() string {
	if int(k) < len(names) {
		return names[k]
	}
	return "unknown kind"
}

// Error is a classified failure. Msg is for the user; Err, if any, is the
// cause for the log and for errors.Is and errors.As.
type Error struct {
	Kind Kind
	Msg  string
	Err  error
}

// Error returns the message for the user.
func (e *Error) Error() string { return e.Msg }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Is reports whether target is the error's kind.
func (e *Error) Is(target error) bool {
	k, ok := target.(Kind)
	return ok && k == e.Kind
}

// KindOf returns the kind of the outermost classified error in err's chain;
// context errors count as Canceled and Deadline, everything else as Internal.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	switch {
	case errors.Is(err, context.Canceled):
		return Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return Deadline
	}
	return Internal
}

func newf(k Kind, format string, a []any) error {
	err := fmt.Errorf(format, a...)
	return &Error{Kind: k, Msg: err.Error(), Err: errors.Unwrap(err)}
}

// Invalidf returns an Invalid error; %w keeps a cause. The other constructors
// do the same for their kinds.
func Invalidf(format string, a ...any) error { return newf(Invalid, format, a) }

// Unauthorizedf returns an Unauthorized error.
func Unauthorizedf(format string, a ...any) error { return newf(Unauthorized, format, a) }

// Forbiddenf returns a Forbidden error.
func Forbiddenf(format string, a ...any) error { return newf(Forbidden, format, a) }

// NotFoundf returns a NotFound error.
func NotFoundf(format string, a ...any) error { return newf(NotFound, format, a) }

// Conflictf returns a Conflict error.
func Conflictf(format string, a ...any) error { return newf(Conflict, format, a) }

// NotModifiedf returns a NotModified error.
func NotModifiedf(format string, a ...any) error { return newf(NotModified, format, a) }

// Exhaustedf returns an Exhausted error.
func Exhaustedf(format string, a ...any) error { return newf(Exhausted, format, a) }

// Unavailablef returns an Unavailable error.
func Unavailablef(format string, a ...any) error { return newf(Unavailable, format, a) }

// NotImplementedf returns a NotImplemented error.
func NotImplementedf(format string, a ...any) error { return newf(NotImplemented, format, a) }

// DataLossf returns a DataLoss error.
func DataLossf(format string, a ...any) error { return newf(DataLoss, format, a) }

// Internalf returns an Internal error whose message is fit for the user.
func Internalf(format string, a ...any) error { return newf(Internal, format, a) }
