package runtime

import (
	"golang.org/x/sys/unix"

	"lade/internal/linux/mount"
	"lade/internal/linux/ns"
	"lade/internal/linux/sys"
)

// What a launcher does otherwise when it runs in a user namespace itself, as
// in a container that was started with nesting=true.

// bindDevice shows a device of our own /dev in the container: in a user
// namespace none can be made. It reports whether there is the same one.
func (b *builder) bindDevice(d device) bool {
	fd, err := cloneHost(d.path, &mount.Options{Bind: true})
	if err != nil {
		return false
	}
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != d.kind || st.Rdev != unix.Mkdev(d.major, d.minor) {
		sys.CloseAll(fd)
		return false
	}
	b.attach(known(b.own(fd)), d.path, true)
	return true
}

// base is the mount namespace of which containers get a copy. In a user
// namespace they can mount proc and sysfs only where these are in sight.
func (b *builder) base() (int, error) {
	if b.l.host.nested {
		return b.l.visible.open(b.l.makeVisible)
	}
	return b.l.empty.open(ns.Empty)
}
