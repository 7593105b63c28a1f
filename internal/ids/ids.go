package ids

import (
	"crypto/rand"
	"encoding/hex"
	"strings"
)

// Len is the length of an id in digits, Short the length that clients print.
const (
	Len   = 64
	Short = 12
)

// New returns a random id of 64 hexadecimal digits. An id whose first twelve
// digits are all decimal would be a legal but confusing host name, so such an
// id is never returned.
func New() string {
	var b [Len / 2]byte
	for {
		rand.Read(b[:]) // never fails: crypto/rand
		id := hex.EncodeToString(b[:])
		if strings.Trim(id[:Short], "0123456789") != "" {
			return id
		}
	}
}

// Truncate returns the short form of an id, with an algorithm prefix removed.
func Truncate(id string) string {
	if _, h, ok := strings.Cut(id, ":"); ok {
		id = h
	}
	if len(id) > Short {
		return id[:Short]
	}
	return id
}

// ValidName reports whether s may name a container or a volume:
// [a-zA-Z0-9][a-zA-Z0-9_.-]+, as in Docker.
func ValidName(s string) bool {
	if len(s) < 2 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case i > 0 && (c == '_' || c == '.' || c == '-'):
		default:
			return false
		}
	}
	return true
}
