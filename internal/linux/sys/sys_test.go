package sys

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

func TestError(t *testing.T) {
	err := Error("mkdir", "/x", unix.EROFS)
	if err.Error() != "mkdir /x: read-only file system" || !errors.Is(err, unix.EROFS) || Error("mkdir", "/x", nil) != nil {
		t.Error(err)
	}
}

func TestRetry(t *testing.T) {
	n := 0
	if err := Retry(func() error {
		if n++; n < 3 {
			return unix.EINTR
		}
		return unix.EIO
	}); err != unix.EIO || n != 3 {
		t.Error(n, err)
	}
}
