package tarpass

import (
	"archive/tar"
	"os"
	"strconv"

	"lade/internal/errdefs"
)

// Sender is a writer of a tar that can pass descriptors: a *Conn.
type Sender interface {
	// Pass sends a descriptor with the next bytes.
	Pass(fd int)
}

// Receiver is a reader of a tar with which descriptors come: a *Conn.
type Receiver interface {
	// Take returns the oldest one, which the caller closes.
	Take() (*os.File, error)
	// Gone returns an error once nobody waits for the result any more.
	Gone() error
}

// Announce makes h the header of a file that is passed, and returns its size.
func Announce(h *tar.Header) int64 {
	size := h.Size
	if h.PAXRecords == nil {
		h.PAXRecords = make(map[string]string)
	}
	h.PAXRecords[Record] = strconv.FormatInt(size, 10)
	h.Size = 0
	return size
}

// Announced returns the size, in bytes, of the file that comes with a header; ok
// is false if its content is in the stream. Errors: Invalid for a header that
// says both, or no number.
func Announced(h *tar.Header) (size int64, ok bool, err error) {
	s, ok := h.PAXRecords[Record]
	if !ok {
		return 0, false, nil
	}
	size, err = strconv.ParseInt(s, 10, 64)
	if err != nil || size < 0 || h.Size != 0 || h.Typeflag != tar.TypeReg {
		return 0, false, errdefs.Invalidf("%q: the header of a passed file is wrong", h.Name)
	}
	return size, true, nil
}
