package sys

import (
	"strings"
	"sync"
)

// Nested reports whether this process is in a user namespace other than the
// first one, which alone maps every id to itself. There it is not the host's
// root: it can make no devices, and gets no rules for them. It is asked once: a
// process with several threads stays where it is.
//
// Source: user_namespaces(7), "User and group ID mappings".
var Nested = sync.OnceValue(func() bool {
	raw, err := ReadFile("/proc/self/uid_map")
	return err == nil && strings.Join(strings.Fields(string(raw)), " ") != "0 0 4294967295"
})
