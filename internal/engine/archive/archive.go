package archive

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"

	apicontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"golang.org/x/sys/unix"

	"lade/internal/engine/container"
	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/layer"
	"lade/internal/linux/idmap"
	"lade/internal/linux/passwd"
	"lade/internal/linux/rootpath"
	"lade/internal/snapshot"
	"lade/internal/tarpass"
)

// Host is what copying needs of the engine.
type Host interface {
	// Find returns the container of that name, id, or unique prefix of an id.
	// Errors: NotFound, Invalid for an ambiguous prefix.
	Find(name string) (*container.Actor, error)
	// Rootfs opens a container's root directory with what is mounted in it. The
	// caller closes it, and resolves names inside it only. What it shows belongs
	// to the ids of the host; ids, unless empty, are the container's.
	Rootfs(ctx context.Context, r *container.Record) (root *os.File, ids idmap.Map, err error)
	// OwnFiles opens a container's own file system, without volumes. The caller
	// closes it, and writes nothing. ids are as those of Rootfs.
	OwnFiles(ctx context.Context, r *container.Record) (root *os.File, ids idmap.Map, err error)
	// MountKey opens a snapshot. The caller closes it, and writes nothing.
	MountKey(ctx context.Context, key string) (*os.File, error)
	// Publish tells the event log.
	Publish(r *container.Record, action events.Action, more map[string]string)
	// PublishImage tells it what happened to an image.
	PublishImage(action events.Action, id, name string)
}

// Copier copies files into and out of containers.
type Copier struct {
	host      Host
	snapshots snapshot.Snapshotter
	images    *image.Images
}

// New returns a copier. It needs no closing.
func New(h Host, s snapshot.Snapshotter, i *image.Images) *Copier { return &Copier{h, s, i} }

// Archive is a tar stream of a path in a container, and what stat says of it.
type Archive struct {
	Stat    apicontainer.PathStat
	Content io.ReadCloser
}

// ExtractOptions is the request of ContainerArchiveExtract.
type ExtractOptions struct {
	NoOverwriteDirNonDir bool
	CopyUIDGID           bool
}

// notThere turns a missing path into Docker's words.
func notThere(err error, path, name string) error {
	if errdefs.KindOf(err) == errdefs.NotFound || errors.Is(err, fs.ErrNotExist) {
		return &errdefs.Error{Kind: errdefs.NotFound, Msg: "Could not find the file " + path + " in container " + name, Err: err}
	}
	return err
}

// openRoot finds a container and opens its root for copying.
func (c *Copier) openRoot(ctx context.Context, name, path string) (*container.Record, *os.File, idmap.Map, error) {
	if path == "" {
		return nil, nil, idmap.Map{}, errdefs.Invalidf("bad parameter: 'path' cannot be empty")
	}
	a, err := c.host.Find(name)
	if err != nil {
		return nil, nil, idmap.Map{}, err
	}
	r := a.View()
	root, ids, err := c.host.Rootfs(ctx, r)
	return r, root, ids, err
}

// ContainerArchiveStat describes a path in a container.
func (c *Copier) ContainerArchiveStat(ctx context.Context, name, path string) (apicontainer.PathStat, error) {
	_, root, _, err := c.openRoot(ctx, name, path)
	if err != nil {
		return apicontainer.PathStat{}, err
	}
	defer root.Close()
	s, err := layer.Stat(root, path)
	return pathStat(s), notThere(err, path, name)
}

func pathStat(s layer.PathStat) apicontainer.PathStat {
	return apicontainer.PathStat{Name: s.Name, Size: s.Size, Mode: s.Mode, Mtime: s.Mtime, LinkTarget: s.LinkTarget}
}

// kernelDirs are the directories on which the runtime mounts what are no files of
// the container: to Docker, which looks at a container from outside, they are empty.
// What a user has mounted in such a place is the container's.
func kernelDirs(r *container.Record) []string {
	return slices.DeleteFunc([]string{"/dev", "/proc", "/sys"}, func(dir string) bool {
		_, tmpfs := r.HostConfig.Tmpfs[dir]
		return tmpfs || slices.ContainsFunc(r.Mounts, func(m container.Mount) bool { return m.Destination == dir })
	})
}

// ContainerArchive reads a path in a container as a tar stream, which the
// caller closes. Of /dev, /proc and /sys it has the directories alone, but what is
// in there can be read by name. Errors: NotFound.
func (c *Copier) ContainerArchive(ctx context.Context, name, path string) (Archive, error) {
	r, root, ids, err := c.openRoot(ctx, name, path)
	if err != nil {
		return Archive{}, err
	}
	s, err := layer.Stat(root, path)
	if err != nil {
		root.Close()
		return Archive{}, notThere(err, path, name)
	}
	c.host.Publish(r, events.ActionArchivePath, nil)
	content := &stream{from: root, produce: func(w io.Writer) error {
		return layer.Pack(ctx, root, path, layer.PackOptions{IDs: ids, Bare: kernelDirs(r)}, w)
	}}
	return Archive{Stat: pathStat(s), Content: content}, nil
}

// ContainerArchiveExtract unpacks a tar stream, which may be compressed, into a
// directory of a container. Errors: NotFound for the path, Invalid if it is no directory or
// the stream no tar, Forbidden on a read-only root.
func (c *Copier) ContainerArchiveExtract(ctx context.Context, name, path string, o ExtractOptions, content io.Reader) error {
	r, root, ids, err := c.openRoot(ctx, name, path)
	if err != nil {
		return err
	}
	defer root.Close()
	u := layer.UnpackOptions{NoOverwriteDirNonDir: o.NoOverwriteDirNonDir, IDs: ids}
	if o.CopyUIDGID && r.Config.User != "" { // as Docker does: else they stay as they are
		if u.Owner, err = owner(root, r); err != nil {
			return err
		}
	}
	if _, passed := content.(tarpass.Receiver); !passed {
		plain, _, err := layer.Decompress(content)
		if err != nil {
			return err
		}
		defer plain.Close()
		content = plain
	}
	err = layer.Unpack(ctx, root, path, content, u)
	switch {
	case errors.Is(err, unix.EROFS):
		return &errdefs.Error{Kind: errdefs.Forbidden, Msg: "container rootfs is marked read-only", Err: err}
	case err != nil:
		return notThere(err, path, name)
	}
	c.host.Publish(r, events.ActionExtractToDir, nil)
	return nil
}

// ContainerExport writes a container's whole file system as a tar.
func (c *Copier) ContainerExport(ctx context.Context, name string, w io.Writer) error {
	a, err := c.host.Find(name)
	if err != nil {
		return err
	}
	r := a.View()
	root, ids, err := c.host.OwnFiles(ctx, r)
	if err != nil {
		return err
	}
	defer root.Close()
	c.host.Publish(r, events.ActionExport, nil)
	return layer.Pack(ctx, root, "/", layer.PackOptions{Contents: true, IDs: ids}, w)
}

// owner resolves a container's user, who owns what is copied in on request.
func owner(root *os.File, r *container.Record) (*layer.Owner, error) {
	u, err := passwd.Resolve(r.Config.User, nil, func(path string) ([]byte, error) {
		return rootpath.ReadFile(int(root.Fd()), path, passwd.Limit)
	})
	if err != nil {
		return nil, err
	}
	return &layer.Owner{UID: int(u.UID), GID: int(u.GID)}, nil
}
