package overlay2

import (
	"context"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"lade/internal/linux/quota"
	"lade/internal/snapshot"
)

// maxDepth is how many layers a snapshot may consist of, as in Docker.
const maxDepth = 128

// Driver is the overlay2 driver.
type Driver struct {
	*snapshot.Dirs
	snapshot.Plain
	overlay snapshot.Overlay
	quotas  bool // the file system has project quotas
}

var _ snapshot.Snapshotter = (*Driver)(nil)

// New opens the driver's directory root, which is made if it is missing, and
// clears what a crash left there. The caller must Close the driver.
//
// Errors: Unavailable with the reason when overlay does not work there.
func New(root string, log *slog.Logger) (*Driver, error) {
	o, err := snapshot.ProbeOverlay(root)
	if err != nil {
		return nil, err
	}
	d := &Driver{overlay: o, quotas: quota.Check(root) == nil}
	d.Dirs, err = snapshot.OpenDirs(root, d, log)
	if err != nil {
		return nil, err
	}
	if old, err := filepath.Glob(filepath.Join(root, ".probe-*")); err == nil {
		for _, p := range old {
			os.RemoveAll(p) // of a probe that was killed; costs nothing if it stays
		}
	}
	return d, nil
}

// Name implements snapshot.Snapshotter.
func (d *Driver) Name() string { return "overlay2" }

// UserXattr reports whether overlays of these snapshots must be mounted with
// the option userxattr, and layers unpacked with layer.OverlayUser.
func (d *Driver) UserXattr() bool { return d.overlay.UserXattr }

// Status implements snapshot.Snapshotter, in the words of Docker's info.
func (d *Driver) Status() [][2]string {
	return [][2]string{
		{"Backing Filesystem", d.overlay.Backing},
		{"Supports d_type", "true"},
		{"Using metacopy", "false"},
		{"Native Overlay Diff", "true"},
		{"userxattr", strconv.FormatBool(d.overlay.UserXattr)},
	}
}

// MaxDepth implements snapshot.Form.
func (d *Driver) MaxDepth() int { return maxDepth }

// Blank implements snapshot.Form.
func (d *Driver) Blank(dir string) error {
	if err := os.Mkdir(dir+"/fs", 0o755); err != nil {
		return err
	}
	if err := os.Chmod(dir+"/fs", 0o755); err != nil { // whatever the umask is
		return err
	}
	return os.Mkdir(dir+"/work", 0o700)
}

// Create implements snapshot.Form.
func (d *Driver) Create(_ context.Context, dir, parent string) error {
	if parent == "" {
		return nil
	}
	return adopt(dir+"/fs", parent+"/fs")
}

// Rebases implements snapshot.Form: a whiteout is the same whatever it hides.
func (d *Driver) Rebases() bool { return true }

// adopt gives a directory, which has mode 0755 and our own owner, the mode and
// owner of another. The top directory of an overlay has the attributes of
// its upper layer, so that they must be handed on from layer to layer.
func adopt(dir, from string) error {
	var st unix.Stat_t
	if err := unix.Lstat(from, &st); err != nil {
		return &fs.PathError{Op: "lstat", Path: from, Err: err}
	}
	if int(st.Uid) != os.Geteuid() || int(st.Gid) != os.Getegid() {
		if err := os.Chown(dir, int(st.Uid), int(st.Gid)); err != nil {
			return err
		}
	}
	if mode := st.Mode & 0o7777; mode != 0o755 {
		if err := unix.Chmod(dir, mode); err != nil { // os.Chmod has modes of its own
			return &fs.PathError{Op: "chmod", Path: dir, Err: err}
		}
	}
	return nil
}

// Temporary implements snapshot.Form: a committed snapshot is not mounted
// writable any more.
func (d *Driver) Temporary() []string { return []string{"work"} }

// Bound implements snapshot.Form, by a project quota on what the snapshot itself
// has, with what overlay works in: copying a file up counts, too.
func (d *Driver) Bound(_ context.Context, dir string, bytes int64) error {
	return quota.Bound(dir, bytes)
}

// Discard implements snapshot.Form.
func (d *Driver) Discard(dir string) error {
	if !d.quotas {
		return nil
	}
	if _, err := os.Lstat(dir + "/fs"); err != nil {
		return nil // not a whole snapshot, but a part
	}
	return quota.Release(dir)
}

// Mount implements snapshot.Form. The mark that a volatile mount leaves is the
// mounter's to clear (linux/overlay): the snapshot may be mounted now.
//
// Source: overlayfs.rst, "Volatile mount".
func (d *Driver) Mount(kind snapshot.Kind, dirs []string) (snapshot.Root, error) {
	top := dirs[0] + "/fs"
	if len(dirs) == 1 {
		return snapshot.Root{Path: top}, nil
	}
	lower := make([]string, len(dirs))
	for i, dir := range dirs {
		lower[i] = dir + "/fs"
	}
	if kind == snapshot.Committed {
		return snapshot.Root{Lower: lower}, nil
	}
	return snapshot.Root{Lower: lower[1:], Upper: top, Work: dirs[0] + "/work"}, nil
}
