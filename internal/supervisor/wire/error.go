package wire

import "lade/internal/errdefs"

// NewError returns the message that carries err: its kind, its words, and the
// exit code that a failed start stands for (0: none).
func NewError(err error, code int) *Error {
	return &Error{Kind: uint8(errdefs.KindOf(err)), Message: err.Error(), Code: code}
}

// Err returns the error that the message carries, of the same kind.
func (e *Error) Err() error {
	return &errdefs.Error{Kind: errdefs.Kind(e.Kind), Msg: e.Message}
}
