package engine

import (
	"sync"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/errdefs"
	"lade/internal/linux/seccomp"
	"lade/internal/linux/seccomp/profile"
	"lade/internal/supervisor/wire"
)

// filterCache keeps compiled seccomp filters: containers with the same
// capabilities share one.
type filterCache struct {
	mu   sync.Mutex
	made map[string]*filter // by the profile's key
}

func newFilterCache() *filterCache { return &filterCache{made: map[string]*filter{}} }

// maxFilters bounds the cache: custom profiles are rare, but come from users.
const maxFilters = 64

// filter is a compiled profile, never changed. Its zero value filters nothing.
type filter struct {
	code     []byte
	flags    uint
	listener *wire.Listener
}

// compile returns a profile's filter; none for no profile.
func (c *filterCache) compile(p *specs.LinuxSeccomp) (*filter, error) {
	if p == nil {
		return &filter{}, nil
	}
	key, err := profile.Key(p)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	f, ok := c.made[key]
	c.mu.Unlock()
	if ok {
		return f, nil
	}
	f = &filter{}
	if f.code, err = seccomp.Compile(p); err != nil {
		return nil, errdefs.Invalidf("seccomp profile: %w", err)
	}
	if f.flags, err = seccomp.Flags(p); err != nil {
		return nil, errdefs.Invalidf("seccomp profile: %w", err)
	}
	if seccomp.Notifies(p) {
		f.listener = &wire.Listener{Path: p.ListenerPath, Metadata: p.ListenerMetadata}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.made) >= maxFilters {
		clear(c.made)
	}
	c.made[key] = f
	return f, nil
}
