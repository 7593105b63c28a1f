package engine

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	apicontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"

	"lade/internal/engine/container"
	"lade/internal/engine/spec"
	"lade/internal/errdefs"
	"lade/internal/linux/selinux"
)

// label gives a new container its SELinux contexts, if containers have any, and
// has the policy look at them before anything is made. unlabel takes them back.
// Errors: Invalid for what the policy does not know, and for binds that must
// not be relabelled.
func (e *host) label(r *container.Record) (err error) {
	d := e.settings().Defaults.Security.SELinux
	if d == nil {
		return nil
	}
	hc := r.HostConfig
	like, err := e.labelLike(hc)
	if err != nil {
		return err
	}
	if r.Labels, err = spec.ChooseLabels(hc, d, &e.levels, like, hc.IpcMode.IsHost() || hc.PidMode.IsHost()); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			e.unlabel(r)
		}
	}()
	if hc.Runtime == lxcRuntime && r.Labels.Process != "" {
		// It splits the options of a mount at commas, which are in every label.
		return errdefs.Invalidf("runtime lxc cannot do this: SELinux labels; use --security-opt label=disable")
	}
	for _, s := range []string{r.Labels.Process, r.Labels.Mount} {
		if s == "" {
			continue
		}
		c, err := selinux.Parse(s)
		if err == nil {
			err = selinux.Check(c)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// labelLike returns the process context that a container must have to live with
// another, whose processes or IPC it shares.
func (e *host) labelLike(hc *apicontainer.HostConfig) (like string, err error) {
	if spec.AsksLabels(hc) {
		return "", nil
	}
	var names []string
	if hc.IpcMode.IsContainer() {
		names = append(names, hc.IpcMode.Container())
	}
	if hc.PidMode.IsContainer() {
		names = append(names, hc.PidMode.Container())
	}
	for i, name := range names {
		a, err := e.containers.find(name)
		if err != nil {
			return "", err
		}
		theirs := a.View().Labels.Process
		if i > 0 && theirs != like {
			return "", errdefs.Invalidf("--ipc and --pid containers SELinux labels aren't the same")
		}
		like = theirs
	}
	return like, nil
}

// labels are the contexts that a container is started with, and every process
// in it: those that it was made with, as long as the kernel knows any.
func (e *host) labels(r *container.Record) spec.Labels {
	if !e.Facts.SELinux {
		return spec.Labels{}
	}
	return r.Labels
}

// unlabel gives a container's categories back.
func (e *host) unlabel(r *container.Record) { e.levels.Free(levelOf(r)) }

// levelOf is the level that a container holds: its files have it, whether its
// processes have a context or not.
func levelOf(r *container.Record) string {
	c, err := selinux.Parse(r.Labels.Mount)
	if err != nil {
		return "" // it has no labels
	}
	return c.Level
}

// checkRelabel refuses binds of what must keep its label. Errors: Invalid.
func checkRelabel(r *container.Record) error {
	if r.Labels.Mount == "" {
		return nil
	}
	for _, m := range r.Mounts {
		if relabelled(m.Mode) && m.Type == mount.TypeBind {
			if err := selinux.CheckRelabel(m.Source); err != nil {
				return errdefs.Invalidf("error setting label on mount source '%s': %w", m.Source, err)
			}
		}
	}
	return nil
}

// relabelNew labels what was made with a container: volumes that only it knows,
// for others too, as they may be given to them; and a root that is not mounted
// but a directory.
func (e *host) relabelNew(ctx context.Context, r *container.Record) error {
	if r.Labels.Mount == "" {
		return nil
	}
	c, err := selinux.Parse(r.Labels.Mount)
	if err != nil {
		return err
	}
	root, err := e.Snapshots.Root(ctx, r.ID)
	if err != nil {
		return err
	}
	if len(root.Lower) == 0 {
		if err := selinux.Relabel(root.Path, c); err != nil {
			return err
		}
	}
	for _, m := range r.Mounts {
		if m.Type == mount.TypeVolume && m.Anonymous {
			if err := selinux.Relabel(m.Source, c.Shared()); err != nil {
				return err
			}
		}
	}
	return nil
}

// relabel labels, before a start, what is mounted into a container and is not of
// its own making: the files on /etc, and the binds and volumes that say "z" (for
// all containers) or "Z" (for this one alone).
func (e *host) relabel(r *container.Record, f spec.Files) error {
	label := e.labels(r).Mount
	if label == "" {
		return nil
	}
	own, err := selinux.Parse(label)
	if err != nil {
		return err
	}
	c := own
	if r.HostConfig.NetworkMode.IsContainer() { // they are another's as well
		c = own.Shared()
	}
	for _, file := range []string{f.Hosts, f.Hostname, f.Resolv} {
		if err := selinux.Relabel(file, c); err != nil {
			return err
		}
	}
	for _, m := range r.Mounts {
		if !relabelled(m.Mode) {
			continue
		}
		c, source := own.Shared(), m.Source
		if slices.Contains(strings.Split(m.Mode, ","), "Z") {
			c = own
		}
		if m.Subpath != "" {
			source = filepath.Join(source, m.Subpath)
		}
		if err := selinux.Relabel(source, c); err != nil {
			return &errdefs.Error{Kind: errdefs.KindOf(err), Msg: fmt.Sprintf("error setting label on mount source '%s': %v", source, err), Err: err}
		}
	}
	return nil
}

// relabelled reports whether the options of a bind or volume ask for labels.
func relabelled(mode string) bool {
	return slices.ContainsFunc(strings.Split(mode, ","), func(o string) bool { return o == "z" || o == "Z" })
}
