package daemon

import (
	"strings"

	"lade/internal/errdefs"
)

// problems collects what is wrong with a configuration, so that an operator
// hears of all of it at once.
type problems []error

// add notes an error; nil is none.
func (p *problems) add(err error) {
	if err != nil {
		*p = append(*p, err)
	}
}

// invalid notes what is wrong.
func (p *problems) invalid(format string, args ...any) {
	*p = append(*p, errdefs.Invalidf(format, args...))
}

// err returns nil, the one error, or one of kind Invalid with a line for each.
func (p problems) err() error {
	switch len(p) {
	case 0:
		return nil
	case 1:
		return p[0]
	}
	lines := make([]string, len(p))
	for i, e := range p {
		lines[i] = e.Error()
	}
	return errdefs.Invalidf("%s", strings.Join(lines, "\n"))
}
