package overlay

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"os"

	"lade/internal/errdefs"
	"lade/internal/linux/xfrm"
)

// Bounds of a key, in bytes: what cannot be guessed, and what nobody needs.
const (
	minKey = 16
	maxKey = 4096
)

// ReadKey reads a key that all hosts of a network have; white space at its end
// does not count. Errors: Invalid, also when others than its owner may read it.
func ReadKey(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, errdefs.Invalidf("the key of an overlay network: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !st.Mode().IsRegular():
		return nil, errdefs.Invalidf("the key of an overlay network: %s is not a file", path)
	case st.Mode().Perm()&0o077 != 0:
		return nil, errdefs.Invalidf("the key of an overlay network: %s may be read by others (mode %04o, want 0600)", path, st.Mode().Perm())
	}
	key, err := io.ReadAll(io.LimitReader(f, maxKey+1))
	if err != nil {
		return nil, err
	}
	key = bytes.TrimRight(key, " \t\r\n")
	if len(key) < minKey || len(key) > maxKey {
		return nil, errdefs.Invalidf("the key of an overlay network: %s has %d bytes, want %d to %d", path, len(key), minKey, maxKey)
	}
	return key, nil
}

// Policies return what makes the kernel drop what is not encrypted, in both
// directions.
func (c Config) Policies() []xfrm.Policy {
	return []xfrm.Policy{
		{Direction: xfrm.In, Local: c.Local, Port: c.Port, ReqID: ReqID(c.Port)},
		{Direction: xfrm.Out, Local: c.Local, Port: c.Port, ReqID: ReqID(c.Port)},
	}
}

// States returns what encrypts between this host and a peer, one for each
// direction. Both hosts derive the same keys, and other ones for each pair of
// hosts, direction and port (RFC 5869). Another key is another SPI as well.
func (c Config) States(key []byte, peer netip.Addr) ([]xfrm.State, error) {
	out := []xfrm.State{{Src: c.Local, Dst: peer}, {Src: peer, Dst: c.Local}}
	for i := range out {
		s := &out[i]
		info := fmt.Sprintf("lade overlay 1: ESP from %s to %s port %d", s.Src, s.Dst, c.Port)
		b, err := hkdf.Key(sha256.New, key, nil, info, 4+2*xfrm.KeyLen)
		if err != nil {
			return nil, err
		}
		const reserved = 256 // RFC 4303 2.1
		s.SPI = max(binary.BigEndian.Uint32(b), reserved)
		s.ReqID = ReqID(c.Port)
		copy(s.Encrypt[:], b[4:])
		copy(s.Integrity[:], b[4+xfrm.KeyLen:])
	}
	return out, nil
}

// ReqID returns the number that the policies of a port have in common with their
// states.
func ReqID(port uint16) uint32 {
	const mark = 0x6c61 << 16 // "la"
	return mark | uint32(port)
}
