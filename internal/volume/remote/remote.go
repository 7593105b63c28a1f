package remote

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"lade/internal/errdefs"
	"lade/internal/plugin"
	"lade/internal/trace"
)

// Kind is what such a plugin implements.
const Kind = "VolumeDriver"

// How long a driver may take, as in Docker: what touches files, and what does not.
const (
	long  = 2 * time.Minute
	short = time.Minute
)

// Driver is a volume driver by the name of its plugin.
type Driver struct {
	p *plugin.Plugin

	mu    sync.Mutex
	scope string // guarded by mu; "": not asked yet
}

// New returns the driver of a name. It looks for nothing yet.
func New(name string, dirs plugin.Dirs) *Driver { return &Driver{p: plugin.New(name, Kind, dirs)} }

// Name is the plugin's.
func (d *Driver) Name() string { return d.p.Name() }

// Close closes idle connections.
func (d *Driver) Close() { d.p.Close() }

// failure is what every answer may hold.
type failure struct{ Err string }

func (f *failure) complaint() string { return f.Err }

// own marks an error that the driver gave: it was reached, and said no.
type own struct{ error }

func (o own) Unwrap() error { return o.error }

// call asks for a method. It blocks until the answer, the limit or the end of ctx.
// Errors: as plugin.Plugin.Call, in Docker's words where the driver says no.
func (d *Driver) call(ctx context.Context, limit time.Duration, method string, request any, answer interface{ complaint() string }) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errdefs.Unavailablef("plugin %s does not answer %s.%s", d.Name(), Kind, method))
	defer cancel()
	span := trace.Begin(trace.Mount, "plugin "+method, d.Name())
	err := d.p.Call(ctx, Kind+"."+method, request, answer)
	if refused, ok := errors.AsType[*plugin.Refused](err); ok {
		err = own{errdefs.Internalf("%s.%s: %s", Kind, method, refused.Words)}
	}
	if err == nil && answer.complaint() != "" {
		err = own{errdefs.Internalf("%s", answer.complaint())}
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return span.End(err)
}

// Said reports whether an error is the driver's own; others are those of reaching
// it.
func Said(err error) bool {
	_, ok := errors.AsType[own](err)
	return ok
}

// Volume is one that a driver knows.
type Volume struct {
	Name       string
	Mountpoint string // "": it is not mounted, or the driver does not tell
	CreatedAt  string
	Status     map[string]any
}

type named struct{ Name string }

// Create makes a volume. What there is of that name is the driver's business.
func (d *Driver) Create(ctx context.Context, name string, options map[string]string) error {
	return d.call(ctx, long, "Create", struct {
		Name string
		Opts map[string]string
	}{name, options}, &failure{})
}

// Get asks for a volume. Errors: NotFound for one that the driver does not know,
// those of reaching it.
func (d *Driver) Get(ctx context.Context, name string) (Volume, error) {
	var a struct {
		failure
		Volume *Volume
	}
	err := d.call(ctx, short, "Get", named{name}, &a)
	switch {
	case err != nil && !Said(err):
		return Volume{}, err
	case err != nil || a.Volume == nil || a.Volume.Name == "":
		return Volume{}, errdefs.NotFoundf("get %s: no such volume", name) // in whatever words the driver has
	}
	return *a.Volume, nil
}

// List asks for all volumes.
func (d *Driver) List(ctx context.Context) ([]Volume, error) {
	var a struct {
		failure
		Volumes []Volume
	}
	err := d.call(ctx, short, "List", struct{}{}, &a)
	return a.Volumes, err
}

// Path asks where a volume is mounted; "": nowhere.
func (d *Driver) Path(ctx context.Context, name string) (string, error) {
	var a place
	err := d.call(ctx, short, "Path", named{name}, &a)
	return a.Mountpoint, err
}

type place struct {
	failure
	Mountpoint string
}

type use struct{ Name, ID string }

// Mount asks for a volume to be mounted for a user, and returns where it is on
// the host.
func (d *Driver) Mount(ctx context.Context, name, user string) (string, error) {
	var a place
	if err := d.call(ctx, long, "Mount", use{name, user}, &a); err != nil {
		return "", err
	}
	if !filepath.IsAbs(a.Mountpoint) {
		return "", errdefs.Internalf("plugin %s: the mountpoint %q is no absolute path", d.Name(), a.Mountpoint)
	}
	return a.Mountpoint, nil
}

// Unmount tells that a user needs a volume no more.
func (d *Driver) Unmount(ctx context.Context, name, user string) error {
	return d.call(ctx, short, "Unmount", use{name, user}, &failure{})
}

// Remove removes a volume.
func (d *Driver) Remove(ctx context.Context, name string) error {
	return d.call(ctx, short, "Remove", named{name}, &failure{})
}

// Scope tells where a volume of the driver is known: "global", or "local", which
// is also what a driver has that does not tell.
func (d *Driver) Scope(ctx context.Context) string {
	d.mu.Lock()
	scope := d.scope
	d.mu.Unlock()
	if scope != "" {
		return scope
	}
	var a struct {
		failure
		Capabilities struct{ Scope string }
	}
	err := d.call(ctx, short, "Capabilities", struct{}{}, &a)
	scope = "local"
	if strings.EqualFold(a.Capabilities.Scope, "global") {
		scope = "global"
	}
	if err == nil || Said(err) { // else it is asked again
		d.mu.Lock()
		defer d.mu.Unlock()
		d.scope = scope
	}
	return scope
}
