package selinux

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
)

// Where the kernel and the policy tell of themselves.
const (
	selinuxfs = "/sys/fs/selinux"
	config    = "/etc/selinux"
)

// Enabled reports whether the kernel has SELinux with a policy, and shows it.
// Whether it enforces the policy does not matter.
func Enabled() bool {
	if unix.Access(selinuxfs+"/enforce", unix.F_OK) != nil {
		return false
	}
	// Until a policy is loaded every process is "kernel".
	own, err := os.ReadFile("/proc/thread-self/attr/current")
	return err == nil && strings.TrimRight(string(own), "\x00\n") != "kernel"
}

// Check asks the loaded policy whether it has a context. Errors: Invalid if not.
//
// Source: security_check_context(3).
func Check(c Context) error {
	f, err := os.OpenFile(selinuxfs+"/context", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteString(c.String() + "\x00"); errors.Is(err, unix.EINVAL) {
		return errdefs.Invalidf("the SELinux policy has no context %q", c.String())
	} else if err != nil {
		return err
	}
	return nil
}

// Defaults are the contexts that a policy has for containers, without
// categories.
type Defaults struct{ Process, File Context }

// Unconfined is the context of the files of a container that has no label of its
// own: those with one cannot use them.
func (d *Defaults) Unconfined() Context {
	c := d.File.Shared()
	if c.Level != "" {
		c.Level += ":" + reserved.String()
	}
	return c
}

// LoadDefaults reads them from the configured policy. Errors: NotFound if it
// says nothing of containers; Invalid for what cannot be read.
func LoadDefaults() (Defaults, error) { return loadDefaults(config) }

func loadDefaults(dir string) (d Defaults, err error) {
	raw, err := os.ReadFile(filepath.Join(dir, "config"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return d, err
	}
	policy := values(raw)["SELINUXTYPE"]
	if policy == "" {
		policy = "targeted" // selinux_config(5)
	}
	file := filepath.Join(dir, policy, "contexts/lxc_contexts")
	if raw, err = os.ReadFile(file); errors.Is(err, fs.ErrNotExist) {
		return d, errdefs.NotFoundf("the SELinux policy %s has no contexts for containers: %w", policy, err)
	} else if err != nil {
		return d, err
	}
	v := values(raw)
	if d.Process, err = Parse(v["process"]); err == nil {
		d.File, err = Parse(v["file"])
	}
	if err != nil {
		return d, errdefs.Invalidf("%s: %w", file, err)
	}
	return d, nil
}

// values reads lines of key = value, in which the value may be in quotes.
func values(raw []byte) map[string]string {
	out := map[string]string{}
	for line := range bytes.Lines(raw) {
		key, value, ok := strings.Cut(strings.TrimSpace(string(line)), "=")
		if ok && !strings.HasPrefix(key, "#") {
			out[strings.TrimSpace(key)] = strings.Trim(strings.TrimSpace(value), `"`)
		}
	}
	return out
}
