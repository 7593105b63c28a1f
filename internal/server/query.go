package server

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"lade/internal/errdefs"
	"lade/internal/filters"
)

// query is the parameters of a request.
type query url.Values

// parseQuery reads the parameters of a request. Errors: Invalid, also for a NUL
// byte, which no name, path and word of the API may have.
func parseQuery(raw string) (query, error) {
	if raw == "" {
		return make(query), nil
	}
	q, err := url.ParseQuery(raw)
	if err != nil {
		return nil, errdefs.Invalidf("%w", err)
	}
	for name, values := range q {
		for _, v := range values {
			if strings.ContainsRune(v, 0) {
				return nil, errdefs.Invalidf("invalid value for %q: it has a NUL byte", name)
			}
		}
	}
	return query(q), nil
}

// get returns the first value, or "".
func (q query) get(name string) string { return url.Values(q).Get(name) }

// all returns every value.
func (q query) all(name string) []string { return q[name] }

// bool reads a boolean as Docker does: everything but "", 0, no, false and none
// is true.
func (q query) bool(name string) bool {
	switch strings.ToLower(strings.TrimSpace(q.get(name))) {
	case "", "0", "no", "false", "none":
		return false
	}
	return true
}

// boolOr is bool with a value for a parameter that is not there at all.
func (q query) boolOr(name string, missing bool) bool {
	if _, ok := q[name]; !ok {
		return missing
	}
	return q.bool(name)
}

// int reads a decimal number; 0 if there is none. Errors: Invalid.
func (q query) int(name string) (int, error) {
	v := q.get(name)
	if v == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		return 0, errdefs.Invalidf("%w", err)
	}
	return n, nil
}

// filters reads the filters of a list. Errors: Invalid.
func (q query) filters() (filters.Args, error) {
	f, err := filters.Parse(q.get("filters"))
	if err != nil {
		return nil, &errdefs.Error{Kind: errdefs.Invalid, Msg: "invalid filter", Err: err}
	}
	return f, nil
}

// time reads seconds since the epoch, with an optional fraction of up to nine
// digits; no value, or 0, is the zero time. Errors: Invalid.
func (q query) time(name string) (time.Time, error) {
	v := q.get(name)
	if v == "" || v == "0" {
		return time.Time{}, nil
	}
	t, err := parseTime(v)
	if err != nil {
		return time.Time{}, errdefs.Invalidf("invalid value for %q: invalid timestamp %q: %w", name, v, err)
	}
	return t, nil
}

func parseTime(v string) (time.Time, error) {
	seconds, fraction, _ := strings.Cut(v, ".")
	s, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("invalid seconds %q: %w", seconds, cause(err))
	}
	if fraction == "" {
		return time.Unix(s, 0), nil
	}
	n, err := strconv.ParseInt((fraction + "000000000")[:max(9, len(fraction))], 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("invalid nanoseconds %q: %w", fraction, cause(err))
	}
	for range len(fraction) - 9 {
		n /= 10
	}
	return time.Unix(s, n), nil
}

// cause returns what is wrong with a number, without the name of the function
// that found out.
func cause(err error) error {
	if e, ok := errors.AsType[*strconv.NumError](err); ok {
		return e.Err
	}
	return err
}

// cells reads a dimension of a terminal. Errors: Invalid.
func (q query) cells(name, what string) (uint16, error) {
	n, err := strconv.ParseUint(q.get(name), 10, 16)
	if below, negative := strconv.ParseInt(q.get(name), 10, 64); negative == nil && below < 0 {
		err = strconv.ErrRange // a number, and none of these
	}
	if err != nil {
		return 0, errdefs.Invalidf("invalid resize %s %q: %w", what, q.get(name), cause(err))
	}
	return uint16(n), nil
}

// terminal reads the size of a terminal, in characters. Errors: Invalid.
func (q query) terminal() (height, width uint16, err error) {
	if height, err = q.cells("h", "height"); err == nil {
		width, err = q.cells("w", "width")
	}
	return height, width, err
}
