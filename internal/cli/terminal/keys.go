package terminal

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// ErrDetached is what a reader made by Detachable returns after the sequence.
var ErrDetached = errors.New("read escape sequence")

// Keys parses a sequence of keys such as "ctrl-p,ctrl-q" or "a,ctrl-[". The
// empty string is the default, ctrl-p ctrl-q.
func Keys(s string) ([]byte, error) {
	if s == "" {
		return []byte{'p' & 0x1f, 'q' & 0x1f}, nil
	}
	var keys []byte
	for k := range strings.SplitSeq(s, ",") {
		c, ctrl := strings.CutPrefix(k, "ctrl-")
		switch {
		case !ctrl && len(k) == 1:
			keys = append(keys, k[0])
		case ctrl && len(c) == 1 && (c[0] >= 'a' && c[0] <= 'z' || strings.Contains(`@[\]^_`, c)):
			keys = append(keys, c[0]&0x1f)
		default:
			return nil, fmt.Errorf("unknown character: '%s'", k)
		}
	}
	return keys, nil
}

// Detachable returns a reader that passes r on and ends with ErrDetached once
// the keys were typed in a row. Keys that began a sequence and did not complete
// it are passed on late, with the key that broke it.
func Detachable(r io.Reader, keys []byte) io.Reader { return &keyReader{r: r, keys: keys} }

type keyReader struct {
	r       io.Reader
	keys    []byte
	matched int    // how many keys of the sequence were typed
	held    []byte // read from r, to be delivered
	err     error
}

func (k *keyReader) Read(p []byte) (int, error) {
	for {
		if len(k.held) > 0 {
			n := copy(p, k.held)
			k.held = k.held[n:]
			return n, nil
		}
		if k.err != nil {
			return 0, k.err
		}
		n, err := k.r.Read(p)
		k.err = err
		for _, c := range p[:n] {
			if k.feed(c) {
				k.err = ErrDetached
				break
			}
		}
		if k.err != nil && k.err != ErrDetached {
			// The sequence that began is not going to be completed.
			k.held = append(k.held, k.keys[:k.matched]...)
			k.matched = 0
		}
	}
}

// feed takes one key and reports whether the sequence is complete.
func (k *keyReader) feed(c byte) bool {
	if len(k.keys) == 0 {
		k.held = append(k.held, c)
		return false
	}
	if c == k.keys[k.matched] {
		k.matched++
		return k.matched == len(k.keys)
	}
	k.held = append(k.held, k.keys[:k.matched]...)
	k.matched = 0
	if c == k.keys[0] {
		k.matched = 1
		return len(k.keys) == 1
	}
	k.held = append(k.held, c)
	return false
}
