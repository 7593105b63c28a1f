package engine

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"lade/internal/digest"
	"lade/internal/engine/container"
	"lade/internal/engine/spec"
	"lade/internal/errdefs"
	"lade/internal/linux/atomicfile"
)

// What the daemon's configuration says of security holds for the containers that
// begin under it. One that exists keeps no_new_privs as it was when it was made,
// as in Docker; one that runs keeps the profiles that it was started with, and
// what is executed in it has them, too, whatever the configuration is by then.
//
// The record names the profiles (container.Confinement). The text of a seccomp
// profile that is configured is too long for it: that is in a file of
// <exec-root>/seccomp, named by its digest, while a container runs under it.

// security is what the configuration says of a container at its next start.
func (e *host) security(r *container.Record) spec.SecurityDefaults {
	d := e.settings().Defaults.Security
	if r.NoNewPrivileges != nil { // else it is of a version that did not record it
		d.NoNewPrivileges = *r.NoNewPrivileges
	}
	return d
}

// confined is what the configuration said of a running container at its start.
// Errors: DataLoss if the profile is lost.
func (e *host) confined(r *container.Record) (spec.SecurityDefaults, error) {
	d := e.security(r)
	if !r.IsConfined() {
		return d, nil
	}
	d.AppArmor = r.Confined.AppArmor
	var err error
	d.Seccomp, err = e.seccompText(r.Confined.Seccomp)
	return d, err
}

// appArmor names the AppArmor profile of a container: of one that runs, what it was
// started with; else, what the next start gives it.
func (e *host) appArmor(r *container.Record) string {
	if r.IsConfined() {
		return r.Confined.AppArmor
	}
	return spec.AppArmorProfile(r.HostConfig, e.Facts, e.security(r))
}

// isText reports whether a configured seccomp profile is the text of one, not a
// word for one.
func isText(profile string) bool { return strings.HasPrefix(strings.TrimSpace(profile), "{") }

// seccompName is how a record names a profile of spec.SecurityDefaults.
func seccompName(profile string) string {
	if isText(profile) {
		return digest.FromBytes([]byte(profile)).String()
	}
	return profile
}

// seccompFile is where the profile with a digest is kept.
func (e *host) seccompFile(d digest.Digest) string {
	return filepath.Join(e.ExecRoot, "seccomp", d.Hex()+".json")
}

// keepSeccomp writes the profile that is configured where the next engine finds
// it, if it is one with a text.
func (e *host) keepSeccomp() error {
	profile := e.settings().Defaults.Security.Seccomp
	if !isText(profile) {
		return nil
	}
	path := e.seccompFile(digest.FromBytes([]byte(profile)))
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return atomicfile.Write(path, []byte(profile), 0o600)
}

// seccompText returns the profile of a name in a record.
func (e *host) seccompText(name string) (string, error) {
	d, err := digest.Parse(name)
	if err != nil { // a word
		return name, nil
	}
	if now := e.settings().Defaults.Security.Seccomp; seccompName(now) == name {
		return now, nil
	}
	raw, err := os.ReadFile(e.seccompFile(d))
	if err == nil && digest.FromBytes(raw) != d {
		err = errors.New("its text has another digest")
	}
	if err != nil {
		return "", errdefs.DataLossf("the seccomp profile that the container was started with is lost; it is confined again once it is restarted: %w", err)
	}
	return string(raw), nil
}

// sweepSeccomp deletes the profiles under which nothing runs any more.
func (e *host) sweepSeccomp(records []*container.Record) error {
	dir := filepath.Join(e.ExecRoot, "seccomp")
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	used := map[string]bool{seccompName(e.settings().Defaults.Security.Seccomp): true}
	for _, r := range records {
		if r.IsConfined() {
			used[r.Confined.Seccomp] = true
		}
	}
	for _, f := range entries {
		if hex, ok := strings.CutSuffix(f.Name(), ".json"); !ok || !used["sha256:"+hex] {
			err = errors.Join(err, os.Remove(filepath.Join(dir, f.Name())))
		}
	}
	return err
}
