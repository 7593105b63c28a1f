package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/failpoint"
	"lade/internal/linux/mount"
)

// mounted is the mount of one volume with a device.
type mounted struct {
	turn  chan struct{}   // of capacity one: who has put something in may use what is below
	users map[string]bool // by whatever name they gave
}

// mount returns the state of a volume's mount.
func (v *Volumes) mount(name string) *mounted {
	v.mu.Lock()
	defer v.mu.Unlock()
	m := v.mounts[name]
	if m == nil {
		m = &mounted{turn: make(chan struct{}, 1), users: map[string]bool{}}
		v.mounts[name] = m
	}
	return m
}

// Mount makes a volume's files available at its path for a user, until Unmount:
// it mounts what the options of the volume name, for the first user, and makes
// the directory of a volume without. It blocks for as long as the file system
// takes, or until ctx ends. Errors: NotFound, Internal in Docker's words for
// what the kernel refuses.
//
// A mount outlives the engine, as containers do; Recover finds it again.
func (v *Volumes) Mount(ctx context.Context, name, user string) error {
	v.mu.Lock()
	r, ok := v.all[name]
	v.mu.Unlock()
	if !ok {
		return errdefs.NotFoundf("get %s: no such volume", name)
	}
	if r.Driver == "" && len(r.Options) == 0 {
		return v.Ensure(name)
	}
	attach, err := v.attacher(r, user)
	if attach == nil {
		return errors.Join(err, v.Ensure(name))
	}
	m := v.mount(name)
	select {
	case m.turn <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	first := len(m.users) == 0
	if m.users[user] || !first && r.Driver == "" { // a plugin is told of each
		m.users[user] = true
		<-m.turn
		return nil
	}
	// A server that does not answer must not hold the caller.
	done := make(chan error, 1)
	v.trash.Go(func() {
		err := attach(ctx, first)
		if err == nil {
			m.users[user] = true
			if ctx.Err() != nil { // nobody waits any more
				err = v.leave(r, m, user)
			}
		}
		done <- err
		<-m.turn
	})
	select {
	case err = <-done:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil {
		return fmt.Errorf("error while mounting volume '%s': %w", v.Path(name), err)
	}
	return nil
}

// attacher returns what makes the files of a volume available for a user, who is
// the first or not; nil for a volume whose files are in its directory.
func (v *Volumes) attacher(r record, user string) (func(ctx context.Context, first bool) error, error) {
	if r.Driver != "" {
		return func(_ context.Context, first bool) error { return v.attachForeign(r, user, first) }, nil
	}
	s, err := parseOptions(r.Options)
	if err != nil || !s.external() {
		return nil, err
	}
	return func(ctx context.Context, _ bool) error { return v.attach(ctx, r.Name, s) }, nil
}

// attach mounts a volume's source at its path.
func (v *Volumes) attach(ctx context.Context, name string, s source) error {
	if err := v.Ensure(name); err != nil {
		return err
	}
	failed := func(err error) error {
		if errdefs.KindOf(err) != errdefs.Internal {
			return err
		}
		with := ""
		if s.data != "" {
			with = ", data: " + discreet(s.data)
		}
		return errdefs.Internalf("failed to mount local volume: mount %s:%s%s: %w", s.device, v.Path(name), with, cause(err))
	}
	fd, err := s.open(ctx)
	if err != nil {
		return failed(err)
	}
	defer unix.Close(fd)
	if err := mount.Attach(fd, v.Path(name)); err != nil {
		return failed(err)
	}
	failpoint.Hit("volume.mounted")
	return nil
}

// discreet returns mount options without the password among them.
func discreet(data string) string {
	list := strings.Split(data, ",")
	for i, o := range list {
		if k, _, ok := strings.Cut(o, "="); ok && (k == "password" || k == "pass" || k == "password2") {
			list[i] = k + "=********"
		}
	}
	return strings.Join(list, ",")
}

// cause takes the call and the path off a kernel's error, as the message names
// them, but leaves the kernel's own words.
func cause(err error) error {
	said, ok := errors.AsType[*mount.Said](err)
	if errno, is := errors.AsType[unix.Errno](err); is {
		if ok {
			return &mount.Said{Err: errno, Words: said.Words}
		}
		return errno
	}
	return err
}

// Unmount ends a user's need of a volume's files. After the last one what was
// mounted is taken away. A user that needs nothing is no error. A plugin is told
// in the background.
func (v *Volumes) Unmount(name, user string) {
	v.mu.Lock()
	m, r := v.mounts[name], v.all[name]
	v.mu.Unlock()
	if m == nil {
		return
	}
	m.turn <- struct{}{}
	end := func() {
		defer func() { <-m.turn }()
		if !m.users[user] {
			return
		}
		if err := v.leave(r, m, user); err != nil {
			v.log.Warn("a volume stays mounted", "volume", name, "error", err)
		}
	}
	if r.Driver != "" {
		v.trash.Go(end)
		return
	}
	end()
}

// leave takes a user off a mount, and the mount away after the last. The caller
// has its turn.
func (v *Volumes) leave(r record, m *mounted, user string) (err error) {
	delete(m.users, user)
	if len(m.users) == 0 {
		err = mount.Detach(v.Path(r.Name))
	}
	if r.Driver != "" {
		err = errors.Join(err, v.leaveForeign(r, user))
	}
	return err
}

// Recover notes which containers use what is mounted, and takes away what nobody
// does: what an engine that died left behind. It is called once, after New and
// before anything else.
func (v *Volumes) Recover(users map[string][]string) error {
	points, err := mount.Below(v.dir)
	if err != nil {
		return err
	}
	for _, p := range points {
		name := filepath.Base(filepath.Dir(p))
		using := users[name]
		if p != v.Path(name) || len(using) == 0 {
			if p == v.dir {
				continue // the administrator's own file system for volumes
			}
			if err := mount.Detach(p); err != nil {
				return err
			}
			continue
		}
		m := v.mount(name)
		for _, u := range using {
			m.users[u] = true
		}
	}
	v.recoverForeign()
	return nil
}

// clear deletes a directory of ours with all that is in it, but nothing that is
// mounted below it: that is taken away first, and if it cannot be, all stays.
func (v *Volumes) clear(dir string) error {
	points, err := mount.Below(dir)
	if err != nil {
		return err
	}
	for _, p := range points {
		if err := mount.Detach(p); err != nil {
			return err
		}
	}
	if err := release(filepath.Join(dir, data)); err != nil {
		return err
	}
	return os.RemoveAll(dir)
}

// External reports whether a volume's files are somewhere else than in its
// directory, so that their size is not the volume's.
func (v *Volumes) External(name string) bool {
	v.mu.Lock()
	r := v.all[name]
	v.mu.Unlock()
	if r.Driver != "" || len(r.Options) == 0 {
		return r.Driver != ""
	}
	s, err := parseOptions(r.Options)
	return err == nil && s.external()
}
