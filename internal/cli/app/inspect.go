package app

import (
	"errors"

	"lade/internal/cli/format"
)

// Inspect prints objects and gives its errors Docker's exit codes: 64 for a bad
// template, 1 for objects that are not found.
func Inspect(e *Env, refs []string, layout string, get format.Lookup) error {
	err := format.Inspect(e.Out, refs, layout, get)
	if err == nil {
		return nil
	}
	code := 1
	if _, ok := errors.AsType[*format.BadTemplate](err); ok {
		code = 64
	}
	return &Exit{Code: code, Err: err}
}
