package resctrl

import (
	"errors"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/sys"
)

// FS is a mounted resctrl file system.
type FS struct {
	dir   string
	mkdir func(string) error
}

// Dir is where it is mounted: resctrl.rst.
const Dir = "/sys/fs/resctrl"

// At returns the file system that is mounted on a directory. Errors: Unavailable
// if there is none.
func At(dir string) (FS, error) {
	if _, err := os.Stat(filepath.Join(dir, "schemata")); err != nil {
		return FS{}, errdefs.Unavailablef("intelRdt is specified in config, but Intel RDT is not supported or enabled: no resctrl file system at %s", dir)
	}
	return FS{dir, func(p string) error { return os.Mkdir(p, 0o755) }}, nil
}

// group returns the directory of a container's control group: that of its class
// of service, or one of its own.
func group(id string, r *specs.LinuxIntelRdt) string {
	if r.ClosID != "" {
		return r.ClosID
	}
	return id
}

// Own returns the directories, relative to the file system, that belong to a
// container and go with it, the inner first.
func Own(id string, r *specs.LinuxIntelRdt) (own []string) {
	if r == nil {
		return nil
	}
	if r.EnableMonitoring {
		own = append(own, filepath.Join(group(id, r), "mon_groups", id))
	}
	if r.ClosID == "" {
		own = append(own, id)
	}
	return own
}

// Check refuses what can never work. Errors: Invalid.
func Check(r *specs.LinuxIntelRdt) error {
	switch c := r.ClosID; {
	case c == "/":
	case c != "" && (c == "." || c == ".." || strings.ContainsAny(c, "/\n\x00") || strings.Contains(" info mon_groups mon_data ", " "+c+" ")):
		return errdefs.Invalidf("invalid intelRdt.closID %q", c)
	}
	for _, line := range schemata(r) {
		if strings.ContainsAny(line, "\n\x00") || !strings.Contains(line, ":") {
			return errdefs.Invalidf("invalid schemata of intelRdt %q", line)
		}
	}
	return nil
}

// schemata returns the lines that a configuration asks for, in the order in which
// they are written: of two for the same resource the later one counts.
func schemata(r *specs.LinuxIntelRdt) (lines []string) {
	for _, l := range []string{r.L3CacheSchema, r.MemBwSchema} {
		if l != "" {
			lines = append(lines, l)
		}
	}
	return append(lines, r.Schemata...)
}

// Create makes a container's groups and returns descriptors of the files in which
// its first process, while it has one thread, writes "0" to enter them. The
// caller closes them. A class of service that exists must have the schemata that
// are asked for; one for which none are asked for must exist. When it fails,
// nothing is left.
//
// Errors: Invalid, with what the kernel says (info/last_cmd_status); NotFound for
// a class of service; Conflict for other schemata.
func (f FS) Create(id string, r *specs.LinuxIntelRdt) (tasks []int, err error) {
	if err := Check(r); err != nil {
		return nil, err
	}
	dir := filepath.Join(f.dir, group(id, r))
	made := []string{}
	defer func() {
		if err != nil {
			for i := range made {
				err = errors.Join(err, os.Remove(made[len(made)-1-i]))
			}
		}
	}()
	make := func(p string) error {
		err := f.mkdir(p)
		if err == nil {
			made = append(made, p)
		}
		return err
	}
	lines := schemata(r)
	if err := f.class(dir, r, lines, make); err != nil {
		return nil, err
	}
	if r.EnableMonitoring {
		if err := make(filepath.Join(dir, "mon_groups", id)); err != nil {
			return nil, f.refused(err)
		}
	}
	return f.Tasks(id, r)
}

// Tasks opens for a further process what Create has opened for the first.
func (f FS) Tasks(id string, r *specs.LinuxIntelRdt) (tasks []int, err error) {
	dir := filepath.Join(f.dir, group(id, r))
	into := []string{dir}
	if r.EnableMonitoring {
		into = append(into, filepath.Join(dir, "mon_groups", id))
	}
	for _, p := range into {
		p = filepath.Join(p, "tasks")
		fd, err := unix.Open(p, unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			sys.CloseAll(tasks...)
			return nil, sys.Error("open", p, err)
		}
		tasks = append(tasks, fd)
	}
	return tasks, nil
}

// class makes or compares the group that says how much there is.
func (f FS) class(dir string, r *specs.LinuxIntelRdt, lines []string, make func(string) error) error {
	_, err := os.Stat(dir)
	exists := err == nil
	switch {
	case exists && r.ClosID == "":
		return errdefs.Conflictf("the resctrl group %s exists", dir)
	case exists:
		return f.compare(dir, lines)
	case r.ClosID != "" && len(lines) == 0:
		return errdefs.NotFoundf("clos %q does not exist", r.ClosID)
	}
	if err := make(dir); err != nil {
		return f.refused(err)
	}
	return f.write(dir, lines)
}

func (f FS) write(dir string, lines []string) error {
	if len(lines) == 0 {
		return nil
	}
	file := filepath.Join(dir, "schemata")
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0); err != nil {
		return f.refused(err)
	}
	return nil
}

// Change gives the group that a container has been created with other schemata:
// those of change, whose other fields do not count. A class of service that
// others may be in, too, is theirs as well, and stays as it is.
//
// Errors: Invalid, with what the kernel says; Conflict for a container whose
// group is not its own.
func (f FS) Change(id string, created, change *specs.LinuxIntelRdt) error {
	if created == nil || created.ClosID != "" {
		return errdefs.Conflictf("the container has no resctrl group of its own")
	}
	lines := &specs.LinuxIntelRdt{L3CacheSchema: change.L3CacheSchema, MemBwSchema: change.MemBwSchema, Schemata: change.Schemata}
	if err := Check(lines); err != nil {
		return err
	}
	return f.write(filepath.Join(f.dir, group(id, created)), schemata(lines))
}

// compare reports schemata that are other than those that are asked for.
func (f FS) compare(dir string, lines []string) error {
	b, err := os.ReadFile(filepath.Join(dir, "schemata"))
	if err != nil {
		return err
	}
	have := collect(strings.Lines(string(b)))
	for name, values := range collect(slices.Values(lines)) {
		for domain, v := range values {
			if have[name][domain] != v {
				return errdefs.Conflictf("the resctrl group %s has other schemata: %s is %v, not %v", dir, name, have[name], values)
			}
		}
	}
	return nil
}

// collect returns what lines say together, by resource and domain.
func collect(lines iter.Seq[string]) map[string]map[string]string {
	all := map[string]map[string]string{}
	for line := range lines {
		name, values := parse(line)
		if all[name] == nil {
			all[name] = values
		}
		maps.Copy(all[name], values)
	}
	return all
}

// parse takes a line such as "L3:0=ff;1=f" apart. The kernel writes its numbers
// with zeros or spaces in front, which do not count.
func parse(line string) (name string, values map[string]string) {
	name, rest, _ := strings.Cut(line, ":")
	values = map[string]string{}
	for v := range strings.SplitSeq(rest, ";") {
		domain, n, _ := strings.Cut(v, "=")
		n = strings.TrimSpace(n)
		if x, err := strconv.ParseUint(n, 16, 64); err == nil {
			n = strconv.FormatUint(x, 16)
		}
		values[strings.TrimSpace(domain)] = n
	}
	return strings.TrimSpace(name), values
}

// refused adds the kernel's reason.
func (f FS) refused(err error) error {
	why, _ := os.ReadFile(filepath.Join(f.dir, "info", "last_cmd_status")) // it may have none
	return errdefs.Invalidf("intelRdt: %w: %s", err, strings.TrimSpace(string(why)))
}

// Remove removes directories that Own has named; those that are not there are
// no error. Processes in them go to the file system's root group.
func Remove(dir string, own []string) error {
	for _, p := range own {
		if err := unix.Rmdir(filepath.Join(dir, p)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return sys.Error("rmdir", p, err)
		}
	}
	return nil
}
