package errdefs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"testing"
)

func TestKindOf(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want Kind
	}{
		{NotFoundf("No such container: %s", "x"), NotFound},
		{fmt.Errorf("start: %w", Conflictf("busy")), Conflict},
		{fmt.Errorf("a: %w", context.Canceled), Canceled},
		{context.DeadlineExceeded, Deadline},
		{fs.ErrNotExist, Internal},
		{Invalidf("outer: %w", NotFoundf("inner")), Invalid},
	} {
		if got := KindOf(tc.err); got != tc.want {
			t.Errorf("KindOf(%v) = %v, want %v", tc.err, got, tc.want)
		}
	}
	if err := fmt.Errorf("wrap: %w", NotFoundf("gone: %w", fs.ErrNotExist)); !errors.Is(err, NotFound) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v: kind or cause lost", err)
	}
}
