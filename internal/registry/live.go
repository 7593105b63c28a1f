package registry

import "sync/atomic"

// Live is the client of a configuration that may change while it runs.
type Live struct{ now atomic.Pointer[Client] }

// NewLive begins with a configuration. Errors: Invalid.
func NewLive(c Config) (*Live, error) {
	first, err := New(c)
	if err != nil {
		return nil, err
	}
	l := new(Live)
	l.now.Store(first)
	return l, nil
}

// Client returns the client of the configuration that holds now. It is for one
// operation: a later one asks again.
func (l *Live) Client() *Client { return l.now.Load() }

// Reload takes over another configuration. Operations under way go on with the
// one that they began with; a blob that one of them fetches is not fetched by
// another at the same time. Errors: Invalid, and nothing has changed.
func (l *Live) Reload(c Config) error {
	next, err := New(c)
	if err != nil {
		return err
	}
	old := l.now.Load()
	next.flights = old.flights
	l.now.Store(next)
	old.Close()
	return nil
}
