package digest

import (
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"strings"

	"lade/internal/errdefs"
)

// Digest is "sha256:" and 64 lower-case hexadecimal digits: the hash of a blob.
type Digest string

// DiffID is the digest of a layer's uncompressed tar stream.
type DiffID Digest

// ChainID identifies the result of applying a stack of layers in order.
type ChainID Digest

const prefix = Algorithm + ":"

// Algorithm is the one that is used.
const Algorithm = "sha256"

// Parse checks that s is a digest. Other algorithms are NotImplemented, a
// malformed digest is Invalid.
func Parse(s string) (Digest, error) {
	alg, enc, ok := strings.Cut(s, ":")
	if !ok || alg == "" {
		return "", errdefs.Invalidf("invalid digest %q", s)
	}
	if alg != "sha256" {
		return "", errdefs.NotImplementedf("digest algorithm %q is not supported", alg)
	}
	if len(enc) != 2*sha256.Size || strings.Trim(enc, "0123456789abcdef") != "" {
		return "", errdefs.Invalidf("invalid digest %q", s)
	}
	return Digest(s), nil
}

// FromBytes returns the digest of b.
func FromBytes(b []byte) Digest {
	sum := sha256.Sum256(b)
	return Digest(prefix + hex.EncodeToString(sum[:]))
}

// FromHash returns the digest of what was written to h, a SHA-256.
func FromHash(h hash.Hash) Digest {
	var sum [sha256.Size]byte
	return Digest(prefix + hex.EncodeToString(h.Sum(sum[:0])))
}

// FromReader reads r to its end and returns the digest and the length read.
func FromReader(r io.Reader) (Digest, int64, error) {
	h := sha256.New()
	n, err := io.Copy(h, r)
	if err != nil {
		return "", n, err
	}
	return FromHash(h), n, nil
}

// Hex returns the digits after the algorithm.
func (d Digest) Hex() string { return strings.TrimPrefix(string(d), prefix) }

// Short returns the first twelve digits, as clients print ids.
func (d Digest) Short() string {
	if h := d.Hex(); len(h) > 12 {
		return h[:12]
	}
	return d.Hex()
}

// String returns the whole digest.
func (d Digest) String() string { return string(d) }

// Chain returns the ChainIDs of the prefixes of layers: the i-th identifies
// layers 0 to i.
//
// Source: OCI image-spec config.md, "Layer ChainID".
func Chain(layers []DiffID) []ChainID {
	out := make([]ChainID, len(layers))
	for i, l := range layers {
		if i == 0 {
			out[i] = ChainID(l)
			continue
		}
		out[i] = ChainID(FromBytes([]byte(string(out[i-1]) + " " + string(l))))
	}
	return out
}
