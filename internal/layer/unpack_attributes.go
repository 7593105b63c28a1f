package layer

import (
	"archive/tar"
	"errors"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/idmap"
	"lade/internal/linux/xattr"
)

// ownerOf returns the owner that an entry gets.
func (u *unpacker) ownerOf(h *tar.Header) (uid, gid int) {
	if u.owner != nil {
		return u.translate(u.owner.UID, u.owner.GID)
	}
	return u.translate(h.Uid, h.Gid)
}

// translate returns the host's ids. Who has no counterpart there is nobody.
func (u *unpacker) translate(uid, gid int) (int, int) {
	if u.ids.Empty() || uid < 0 || gid < 0 {
		return uid, gid
	}
	hostUID, hostGID, ok := u.ids.Host(uint32(uid), uint32(gid))
	if !ok {
		hostUID, hostGID, _ = u.ids.Host(idmap.Nobody, idmap.Nobody)
	}
	return int(hostUID), int(hostGID)
}

// fileAttributes sets what an open new file shall have. The order matters:
// chown(2) clears set-user-ID and capabilities, writing clears both.
func (u *unpacker) fileAttributes(fd int, p *parent, name string, h *tar.Header, mode uint32) error {
	uid, gid := u.ownerOf(h)
	chowned := uid != u.uid || gid != u.gid || p.setgid || u.exact
	if chowned {
		if err := unix.Fchown(fd, uid, gid); err != nil {
			return chownError(name, uid, gid, err)
		}
	}
	if u.exact || mode&(u.umask|0o7000) != 0 {
		if err := unix.Fchmod(fd, mode); err != nil {
			return pathError("fchmod", name, err)
		}
	}
	for attr, value := range h.PAXRecords {
		if attr, ok := u.attr(attr); ok {
			if err := u.setXattr(xattr.Set(fd, attr, []byte(value)), attr); err != nil {
				return pathError("setxattr", name, err)
			}
		}
	}
	t := times(h)
	return pathError("utimensat", name, unix.UtimesNanoAt(fd, "", t[:], unix.AT_EMPTY_PATH))
}

// attributes does the same for an entry that is not open.
func (u *unpacker) attributes(p *parent, base string, h *tar.Header, link bool) error {
	uid, gid := u.ownerOf(h)
	if uid != u.uid || gid != u.gid || p.setgid || u.exact {
		if err := unix.Fchownat(p.fd, base, uid, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return chownError(base, uid, gid, err)
		}
	}
	if !link {
		if err := chmod(p.fd, base, uint32(h.Mode)&0o7777); err != nil {
			return err
		}
	}
	return u.finish(p, base, h)
}

// finish sets extended attributes and times of an entry that is not open.
func (u *unpacker) finish(p *parent, base string, h *tar.Header) error {
	for attr, value := range h.PAXRecords {
		if attr, ok := u.attr(attr); ok {
			if err := u.setXattr(xattr.SetAt(p.fd, base, attr, []byte(value)), attr); err != nil {
				return pathError("setxattr", base, err)
			}
		}
	}
	t := times(h)
	return pathError("utimensat", base, unix.UtimesNanoAt(p.fd, base, t[:], unix.AT_SYMLINK_NOFOLLOW))
}

// chownError explains EINVAL, which means that a user namespace does not map
// the id.
func chownError(name string, uid, gid int, err error) error {
	if err == unix.EINVAL {
		return errdefs.Invalidf("layer: the owner %d:%d of %q does not exist here: %w", uid, gid, name, err)
	}
	return pathError("fchownat", name, err)
}

// attr returns the name under which the extended attribute of a pax record is
// stored. Overlay's own are escaped, so that no stream can use them.
func (u *unpacker) attr(record string) (string, bool) {
	attr, ok := strings.CutPrefix(record, paxXattr)
	if !ok {
		return "", false
	}
	if u.lay != nil {
		attr = u.lay.escape(attr)
	}
	return attr, true
}

// setXattr forgives what the file system or the user namespace cannot store.
func (u *unpacker) setXattr(err error, attr string) error {
	if err == nil {
		return nil
	}
	if xattr.Unsupported(err) || u.user && errors.Is(err, unix.EPERM) && !strings.HasPrefix(attr, "user.") {
		u.skipped++
		return nil
	}
	return err
}

// times returns access and modification time as the kernel takes them.
func times(h *tar.Header) [2]unix.Timespec {
	at := h.AccessTime
	if at.IsZero() {
		at = h.ModTime
	}
	return [2]unix.Timespec{timespec(at), timespec(h.ModTime)}
}

func timespec(t time.Time) unix.Timespec {
	if t.IsZero() {
		t = time.Unix(0, 0)
	}
	return unix.Timespec{Sec: t.Unix(), Nsec: int64(t.Nanosecond())}
}

// linkAttributes gives a file what the entry of its second name says, where
// that differs: chown(2) would clear capabilities that only the entry of the
// first name has.
func (u *unpacker) linkAttributes(p *parent, base string, h *tar.Header) error {
	st, err := lstat(p.fd, base)
	if err != nil {
		return err
	}
	if uid, gid := u.ownerOf(h); int(st.Uid) != uid || int(st.Gid) != gid {
		if err := unix.Fchownat(p.fd, base, uid, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return chownError(base, uid, gid, err)
		}
		st.Mode &^= 0o7000 // cleared by the kernel
	}
	if mode := uint32(h.Mode) & 0o7777; !isLink(&st) && st.Mode&0o7777 != mode {
		if err := chmod(p.fd, base, mode); err != nil {
			return err
		}
	}
	return u.finish(p, base, h)
}
