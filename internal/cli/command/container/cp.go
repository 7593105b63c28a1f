package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/docker/go-units"
	moby "github.com/moby/moby/client"
	"github.com/spf13/pflag"

	"lade/internal/cli/app"
	"lade/internal/tarpass"
)

func copyCommand() app.Command {
	return app.Command{
		Use: "cp [OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n\t" + app.Name + " cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
		Long: `Copy files/folders between a container and the local filesystem

Use '-' as the source to read a tar archive from stdin
and extract it to a directory destination in a container.
Use '-' as the destination to stream a tar archive of a
container source to stdout.`,
		Short: "Copy files/folders between a container and the local filesystem",
		Args:  app.Exactly(2),
		Paths: []string{"container cp", "cp"},
		Build: buildCopy,
	}
}

// copying is one cp. A place is what a path means on its side.
type copying struct {
	env                    *app.Env
	api                    *moby.Client
	follow, archive, quiet bool
	id                     string
}

// place is an end of a copy.
type place struct {
	path        string // "/." at the end means the contents of a directory
	exists, dir bool
	size        int64  // bytes, of a local file
	rename      string // the name that entries get instead of the path's last part
}

func buildCopy(e *app.Env, f *pflag.FlagSet) app.Run {
	c := &copying{env: e}
	f.BoolVarP(&c.follow, "follow-link", "L", false, "Always follow symbol link in SRC_PATH")
	f.BoolVarP(&c.archive, "archive", "a", false, "Archive mode (copy all uid/gid information)")
	f.BoolVarP(&c.quiet, "quiet", "q", false, "Suppress progress output during copy. Progress output is automatically suppressed if no terminal is attached")
	return func(ctx context.Context, args []string) error {
		switch {
		case args[0] == "":
			return errors.New("source can not be empty")
		case args[1] == "":
			return errors.New("destination can not be empty")
		}
		if !f.Changed("quiet") {
			c.quiet = !e.Out.IsTerminal()
		}
		srcID, src := splitCopy(args[0])
		dstID, dst := splitCopy(args[1])
		var err error
		if c.api, err = e.API(); err != nil {
			return err
		}
		switch {
		case srcID != "" && dstID != "":
			return errors.New("copying between containers is not supported")
		case srcID != "":
			c.id = srcID
			return c.from(ctx, src, dst)
		case dstID != "":
			c.id = dstID
			return c.to(ctx, src, dst)
		}
		return errors.New("must specify at least one container source")
	}
}

// splitCopy divides CONTAINER:PATH. A local path with a colon has to begin with
// "/" or ".".
func splitCopy(arg string) (id, p string) {
	if filepath.IsAbs(arg) {
		return "", arg
	}
	id, p, ok := strings.Cut(arg, ":")
	if !ok || strings.HasPrefix(id, ".") {
		return "", arg
	}
	return id, p
}

// keepEnd gives clean the "/." or "/" that p ended with.
func keepEnd(clean, p string) string {
	switch {
	case filepath.Base(p) == "." && p != "." && clean != "/" || p == ".":
		return strings.TrimSuffix(clean, "/") + "/."
	case strings.HasSuffix(p, "/.") && clean != "/":
		return clean + "/."
	case strings.HasSuffix(p, "/") && !strings.HasSuffix(clean, "/"):
		return clean + "/"
	}
	return clean
}

// split divides a path into directory and last entry; the last entry of "a/." is
// ".".
func split(p string) (dir, base string) {
	clean := path.Clean(p)
	if strings.HasSuffix(p, "/.") || p == "." {
		return clean, "."
	}
	return path.Dir(clean), path.Base(clean)
}

func assertsDir(p string) bool { return strings.HasSuffix(p, "/") || path.Base(p) == "." }

// target says where an archive of src is to be extracted so that it ends up as
// dst, and how the first part of its entries' names changes.
func target(src, dst place) (dir, old, renamed string, err error) {
	dir, base := split(dst.path)
	_, old = split(src.path)
	if src.rename != "" {
		old = src.rename
	}
	switch {
	case dst.exists && dst.dir:
		return dst.path, "", "", nil
	case dst.exists && src.dir:
		return "", "", "", errors.New("cannot copy directory")
	case dst.exists, src.dir:
		return dir, old, base, nil
	case assertsDir(dst.path):
		return "", "", "", errors.New("no such directory")
	}
	return dir, old, base, nil
}

// renameEntry changes the first part of an entry's name.
func renameEntry(name, old, renamed string) string {
	if renamed == "" {
		return name
	}
	if old == "/" {
		old = ""
	}
	return strings.Replace(name, old, renamed, 1)
}

func (c *copying) from(ctx context.Context, src, dst string) error {
	if dst != "-" {
		abs, err := filepath.Abs(dst)
		if err != nil {
			return err
		}
		dst = keepEnd(abs, dst)
		if err := checkDestination(dst); err != nil {
			return err
		}
	}
	source := place{path: src, exists: true}
	if c.follow {
		if st, err := c.api.ContainerStatPath(ctx, c.id, moby.ContainerStatPathOptions{Path: src}); err == nil && st.Stat.Mode&os.ModeSymlink != 0 {
			// The entries keep the link's name though they are the target's.
			_, source.rename = split(src)
			source.path = resolveLink(src, st.Stat.LinkTarget)
		}
	}
	in, err := c.open(ctx, source.path, dst != "-")
	if err != nil {
		return err
	}
	defer in.Close()
	if dst == "-" {
		_, err := io.Copy(c.env.Out, in)
		return err
	}
	source.dir = in.stat.Mode.IsDir()
	n, err := c.extract(ctx, in.Reader, source, dst)
	if err == nil {
		err = in.end()
	}
	if err != nil {
		return err
	}
	return c.told(n, "to "+dst)
}

func checkDestination(p string) error {
	dir := filepath.Dir(filepath.Clean(p))
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("invalid output path: directory %q does not exist", dir)
	}
	if st, err := os.Stat(p); err == nil && !st.IsDir() && !st.Mode().IsRegular() {
		return fmt.Errorf("invalid output path: %q must be a directory or a regular file", p)
	}
	return nil
}

func resolveLink(link, target string) string {
	if path.IsAbs(target) {
		return target
	}
	dir, _ := split(link)
	return path.Join(dir, target)
}

func (c *copying) told(n int64, where string) error {
	if c.quiet {
		return nil
	}
	_, err := fmt.Fprintln(c.env.Err, "Successfully copied", units.HumanSizeWithPrecision(float64(n), 3), where)
	return err
}

func (c *copying) to(ctx context.Context, src, dst string) error {
	into := place{path: dst}
	st, err := c.api.ContainerStatPath(ctx, c.id, moby.ContainerStatPathOptions{Path: dst})
	if err == nil && st.Stat.Mode&os.ModeSymlink != 0 {
		into.path = resolveLink(dst, st.Stat.LinkTarget)
		st, err = c.api.ContainerStatPath(ctx, c.id, moby.ContainerStatPathOptions{Path: into.path})
	}
	// A destination that is not there may still be made in its directory.
	if err == nil {
		if m := st.Stat.Mode; !m.IsDir() && !m.IsRegular() {
			return fmt.Errorf(`destination "%s:%s" must be a directory or a regular file: %s`, c.id, dst, badMode(m))
		}
		into.exists, into.dir = true, st.Stat.Mode.IsDir()
	}
	o := moby.CopyToContainerOptions{CopyUIDGID: c.archive}
	if src == "-" {
		if !into.dir {
			return fmt.Errorf("destination \"%s:%s\" must be a directory", c.id, dst)
		}
		o.DestinationPath, o.Content = into.path, c.env.In
		_, err := c.api.CopyToContainer(ctx, c.id, o)
		return err
	}
	source, err := c.local(src)
	if err != nil {
		return err
	}
	dir, old, renamed, err := target(source, into)
	if err != nil {
		return err
	}
	count := &packing{write: func(w io.Writer) error { return pack(w, source, old, renamed) }}
	defer count.Close()
	o.DestinationPath, o.Content = dir, count
	passed := false
	if source.dir || source.size >= tarpass.Least {
		passed, err = c.passTo(ctx, o, count)
	}
	if !passed {
		_, err = c.api.CopyToContainer(ctx, c.id, o)
	}
	if err != nil {
		return err
	}
	return c.told(count.written(), "to "+c.id+":"+into.path)
}

func badMode(m os.FileMode) string {
	switch {
	case m&os.ModeDevice != 0:
		return "got a device"
	case m&os.ModeIrregular != 0:
		return "got an irregular file"
	}
	return "got " + m.Type().String()
}

// local looks at a path on our side.
func (c *copying) local(src string) (place, error) {
	abs, err := filepath.Abs(src)
	if err != nil {
		return place{}, err
	}
	p := place{path: keepEnd(abs, src), exists: true}
	st, err := os.Lstat(p.path)
	if err != nil {
		return p, err
	}
	if st.Mode()&os.ModeSymlink != 0 && c.follow {
		_, p.rename = split(p.path)
		real, err := filepath.EvalSymlinks(p.path)
		if err != nil {
			return p, err
		}
		p.path = real
		if st, err = os.Stat(real); err != nil {
			return p, err
		}
	}
	p.dir, p.size = st.IsDir(), st.Size()
	return p, nil
}
