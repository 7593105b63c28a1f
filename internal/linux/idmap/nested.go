package idmap

import (
	"math"
	"os"
)

// Nested reports whether this process is in a user namespace other than the
// first one, which alone maps every id. There it is not the host's root: it can
// make no devices, and gets no rules for them.
//
// Source: user_namespaces(7), "User and group ID mappings".
func Nested() bool {
	m, err := Of(os.Getpid())
	return err == nil && !(len(m.UID) == 1 && m.UID[0].Size == math.MaxUint32)
}
