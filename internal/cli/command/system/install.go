package system

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/pflag"

	"lade/internal/cli/app"
	"lade/packaging"
)

// programs are those of a build. They lie in one directory, where each finds the
// others, and links lead to those that people call.
var programs = []string{"lade", "laded", "lade-supervisor", "lade-runtime", "lade-init", "lade-gate", "lade-build"}

var called = map[string]string{"bin/lade": "lade", "bin/lade-runtime": "lade-runtime", "sbin/laded": "laded"}

// buildInstall is a command of lade's own. It asks no engine.
func buildInstall(e *app.Env, f *pflag.FlagSet) app.Run {
	var i installation
	f.StringVar(&i.from, "from", "", "Directory of the programs (default: that of this one)")
	f.StringVar(&i.prefix, "prefix", "/usr/local", "Directory below which the programs are to be")
	f.StringVar(&i.units, "units", "", `Directory of the units of systemd, or "none" (default: lib/systemd/system below the prefix)`)
	f.StringVar(&i.dest, "destdir", "", "Directory to put before every path, for packages")
	return func(context.Context, []string) error {
		if err := i.complete(); err != nil {
			return err
		}
		if err := i.run(); err != nil || i.dest != "" || i.units == "none" {
			return err
		}
		return e.Println("Installed. To start it, now and with the machine:\n" +
			"  groupadd --system lade\n" +
			"  systemctl daemon-reload\n" +
			"  systemctl enable --now lade.socket lade-supervisor.socket lade.service lade-containers.service")
	}
}

// installation says what is put where.
type installation struct{ from, prefix, units, dest string }

// complete fills in what was not said. Errors: for paths that are not absolute, and
// programs that are not there; nothing is installed then.
func (i *installation) complete() error {
	if i.units == "" {
		i.units = filepath.Join(i.prefix, "lib/systemd/system")
	}
	for flag, path := range map[string]string{"prefix": i.prefix, "units": i.units} {
		if !filepath.IsAbs(path) && path != "none" || strings.ContainsAny(path, " \t\n%\"'\\") {
			return fmt.Errorf("invalid --%s %q: units of systemd need an absolute path without blanks and quotes", flag, path)
		}
	}
	if i.from == "" {
		self, err := os.Executable()
		if err != nil {
			return err
		}
		i.from = filepath.Dir(self)
	}
	var missing []string
	for _, p := range programs {
		if _, err := os.Stat(filepath.Join(i.from, p)); errors.Is(err, fs.ErrNotExist) {
			missing = append(missing, p)
		} else if err != nil {
			return err
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("not in %s: %s", i.from, strings.Join(missing, ", "))
	}
	return nil
}

// run puts everything in place. A file that is there is replaced by a rename:
// programs may be running, and what runs keeps its own.
func (i *installation) run() error {
	root := filepath.Join(i.dest, i.prefix)
	for _, p := range programs {
		if err := i.program(filepath.Join(i.from, p), filepath.Join(root, "libexec/lade", p)); err != nil {
			return err
		}
	}
	for link, p := range called {
		at := filepath.Join(root, link)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			return err
		}
		next := at + ".new" // put in place by a rename, too; an installation that was killed may have left one
		if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.Symlink("../libexec/lade/"+p, next); err != nil {
			return err
		}
		if err := os.Rename(next, at); err != nil {
			return err
		}
	}
	if i.units == "none" {
		return nil
	}
	units, err := packaging.Units(i.prefix)
	if err != nil {
		return err
	}
	for name, text := range units {
		if err := put(filepath.Join(i.dest, i.units, name), 0o644, strings.NewReader(text)); err != nil {
			return err
		}
	}
	return nil
}

func (i *installation) program(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	was, err := in.Stat()
	if err != nil {
		return err
	}
	if is, err := os.Stat(to); err == nil && os.SameFile(was, is) {
		return nil // it is what is installed
	}
	return put(to, 0o755, in)
}

// put writes a file beside its place and renames it there.
func put(to string, mode fs.FileMode, from io.Reader) (err error) {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(to), "."+filepath.Base(to)+"-")
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			os.Remove(f.Name())
		}
	}()
	if _, err := io.Copy(f, from); err != nil {
		return err
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	return os.Rename(f.Name(), to)
}
