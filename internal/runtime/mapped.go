package runtime

import (
	"context"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/idmap"
	"lade/internal/linux/mount"
	"lade/internal/linux/sys"
)

// Mapped makes mounts as the user namespace of one container has them, for
// runtimes that cannot translate ids.
type Mapped struct {
	// Every is for a runtime that looks for the sources of binds as the container's
	// root, which may not get there: Bind clones them all.
	Every bool

	b *builder
}

// Mapped is for containers in the user namespace user, a descriptor that stays
// the caller's, or, if that is 0, the one that s joins by its path; otherwise it
// returns nil. The caller must Close. Errors: NotImplemented for a user namespace
// that the runtime is to make, and for mounts with maps where there is none.
func (l *Launcher) Mapped(ctx context.Context, s *specs.Spec, user int) (*Mapped, error) {
	i := -1
	if s.Linux != nil {
		i = userNamespace(s.Linux)
	}
	if i < 0 {
		if slices.ContainsFunc(s.Mounts, func(m specs.Mount) bool { return len(m.UIDMappings)+len(m.GIDMappings) > 0 }) {
			return nil, errdefs.NotImplementedf("mounts with a map of ids for a container without a user namespace, by another runtime")
		}
		return nil, nil
	}
	if user <= 0 && s.Linux.Namespaces[i].Path == "" {
		return nil, errdefs.NotImplementedf("a user namespace that another runtime makes")
	}
	// A builder without a program: it knows of user namespaces and their maps.
	m := &Mapped{b: &builder{l: l}}
	err := m.b.enterUser(ctx, &Container{Spec: s, UserNS: user})
	if err == nil {
		err = m.b.makeMaps(ctx, s)
	}
	if err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// FD is the user namespace.
func (m *Mapped) FD() int { return m.b.user.fd }

// Close gives back what was opened. The mounts stay.
func (m *Mapped) Close() { m.b.close() }

// Root is Rootfs.Mount, with the files translated.
func (m *Mapped) Root(r *Rootfs) (int, error) { return m.b.mountUser(r) }

// As calls f on a thread that makes files as the container's root; see idmap.As.
func (m *Mapped) As(f func() error) error { return idmap.As(m.b.user.uid, m.b.user.gid, f) }

// Bind clones the source of a bind mount that asks for a map; ok is false for
// others, unless Every says so. The descriptor is the caller's.
func (m *Mapped) Bind(s *specs.Mount) (fd int, ok bool, err error) {
	o := mount.Parse(s.Options)
	asks := o.IDMap || o.IDMapAll || len(s.UIDMappings)+len(s.GIDMappings) > 0
	if s.Type != "bind" && !o.Bind || !asks && !m.Every {
		return -1, false, nil
	}
	clone := &mount.Options{Bind: true, Recursive: o.Recursive, Propagation: o.Propagation, AllSet: o.AllSet, AllClear: o.AllClear}
	if asks {
		clone.Propagation = unix.MS_PRIVATE
	}
	if fd, err = cloneHost(s.Source, clone); err != nil || !asks {
		return fd, true, err
	}
	if err := m.b.translate(fd, o, s); err != nil {
		sys.CloseAll(fd)
		return -1, true, err
	}
	return fd, true, nil
}

// Lines is the map, for a specification.
func (m *Mapped) Lines() idmap.Map { return m.b.user.ids }
