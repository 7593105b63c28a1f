package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/errdefs"
)

const (
	rangeSize   = 2 << 20 // bytes of one part, which is in memory until those before it are written
	connections = 4       // to fetch one blob with, while there are slots for transfers
)

// errSlow ends a stream that is better fetched in ranges.
var errSlow = errors.New("registry: slow")

// A registry, or what stands before it, often limits the speed of a connection.
// A blob that does not come in a moment is therefore fetched on several: the
// parts are asked for in order, a few ahead, and written in order. Where the
// network or the disk is the limit this would cost and not help, so it begins
// only once a single stream has proved to be slow, and takes only those slots
// that no other transfer wants.

// pace watches a stream.
type pace struct {
	c     *Client
	begun time.Time
	first int64 // offset at the beginning
	size  int64
}

// slow reports whether what is left would take a good while longer than what has
// passed since the stream began.
func (p *pace) slow(offset int64) bool {
	left := p.size - offset
	if left < p.c.SplitSize {
		return false
	}
	passed := time.Since(p.begun)
	if passed < p.c.Settle {
		return false
	}
	speed := float64(offset-p.first) / passed.Seconds()
	return float64(left) > 2*speed*p.c.Settle.Seconds()
}

// stream copies a body to its end, or until it is slow if it may be split.
func (p *pace) stream(w target, body io.Reader, splits bool) error {
	b := make([]byte, 64<<10)
	for {
		n, err := body.Read(b)
		if n > 0 {
			if _, werr := w.Write(b[:n]); werr != nil {
				return werr
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if splits && p.slow(w.Offset()) {
			return errSlow
		}
	}
}

// ranges receives the rest of a blob on several connections.
func (s *session) ranges(ctx context.Context, d ocispec.Descriptor, w target) error {
	extra := 0
	for extra < connections-1 && s.c.slots.TryAcquire(1) {
		extra++
	}
	defer s.c.slots.Release(int64(extra))
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel() // before Wait

	type part struct {
		body []byte
		err  error
	}
	ahead := make(chan chan part, extra)
	wg.Go(func() {
		defer close(ahead)
		for from := w.Offset(); from < d.Size; from += rangeSize {
			one := make(chan part, 1)
			select {
			case ahead <- one:
			case <-ctx.Done():
				return
			}
			wg.Go(func() {
				body, err := s.part(ctx, d, from, min(rangeSize, d.Size-from))
				one <- part{body, err}
			})
		}
	})
	for one := range ahead {
		p := <-one
		if p.err != nil {
			return p.err
		}
		if _, err := w.Write(p.body); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// part fetches n bytes of a blob.
func (s *session) part(ctx context.Context, d ocispec.Descriptor, from, n int64) ([]byte, error) {
	resp, err := s.do(ctx, http.MethodGet, s.blobPath(d), http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", from, from+n-1)}})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close() // of a body that was read: nothing to learn
	if resp.StatusCode != http.StatusPartialContent || !strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-%d/", from, from+n-1)) {
		s.whole.Store(true)
		return nil, errdefs.Unavailablef("blob %s: the registry has no ranges after all: %s", d.Digest, resp.Status)
	}
	body := make([]byte, n)
	_, err = io.ReadFull(resp.Body, body)
	if errors.Is(err, io.ErrUnexpectedEOF) || err == io.EOF {
		err = errdefs.Unavailablef("blob %s: the registry ended a range early", d.Digest)
	}
	return body, err
}
