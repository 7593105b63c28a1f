package daemon

import (
	"io/fs"
	"net"
	"net/url"
	"strconv"
	"strings"

	"lade/internal/errdefs"
)

// socketMode is what the owner and the group of a unix socket may do with it,
// unless said otherwise: connect, which needs the right to write.
const socketMode = fs.FileMode(0o660)

// terms are on what terms an address of the API is served: what stands behind
// the question mark of unix:///run/lade-ro.sock?mode=ro&group=watchers&perm=0666.
type terms struct {
	readOnly bool        // mode=ro: who connects changes nothing
	group    string      // group=: of this unix socket; "" is the daemon's
	perm     fs.FileMode // perm=: of this unix socket
}

// cutTerms takes the terms off an address. Errors: Invalid.
func cutTerms(host string) (string, terms, error) {
	t := terms{perm: socketMode}
	host, query, ok := strings.Cut(host, "?")
	if !ok {
		return host, t, nil
	}
	said, err := url.ParseQuery(query)
	if err != nil {
		return host, t, errdefs.Invalidf("invalid bind address (%s?%s): %w", host, query, err)
	}
	unix := strings.HasPrefix(host, "unix://")
	for key, values := range said {
		value := values[len(values)-1]
		switch {
		case key == "mode" && (value == "ro" || value == "rw"):
			t.readOnly = value == "ro"
		case key == "group" && unix && value != "":
			t.group = value
		case key == "perm" && unix:
			n, err := strconv.ParseUint(value, 8, 32)
			if err != nil || n > 0o777 {
				return host, t, errdefs.Invalidf("invalid bind address (%s?%s): perm must be an octal number such as 0660", host, query)
			}
			t.perm = fs.FileMode(n)
		default:
			return host, t, errdefs.Invalidf("invalid bind address (%s?%s): unknown %s=%s; there are mode=ro, and of unix sockets group= and perm=", host, query, key, value)
		}
	}
	return host, t, nil
}

// readOnlyListener is a listener whose clients change nothing.
type readOnlyListener struct{ net.Listener }

// isReadOnly reports whether clients of a listener may change nothing.
func isReadOnly(l net.Listener) bool {
	_, yes := l.(readOnlyListener)
	return yes
}
