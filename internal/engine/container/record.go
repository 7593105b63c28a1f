package container

import (
	"encoding/json"
	"fmt"
	"maps"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"lade/internal/engine/spec"
	"lade/internal/linux/idmap"
	"lade/internal/linux/proc"
	"lade/internal/netrate"
	"lade/internal/secret"
)

// Record is all that is known of a container; its JSON is what is persisted.
// A Record that was published is not changed any more, nor anything it points
// to: a change makes a copy.
type Record struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"` // without slash
	Created time.Time `json:"created"`

	Config     *container.Config                    `json:"config"`
	HostConfig *container.HostConfig                `json:"host_config"`
	NetRates   netrate.Asked                        `json:"net_rates,omitzero"`
	Networks   map[string]*network.EndpointSettings `json:"networks,omitempty"` // as asked for
	ImageID    string                               `json:"image_id"`
	Path       string                               `json:"path"` // what is run: entrypoint and command
	Args       []string                             `json:"args,omitempty"`
	Mounts     []Mount                              `json:"mounts,omitempty"`
	Secrets    []secret.Reference                   `json:"secrets,omitempty"` // and configs
	Driver     string                               `json:"driver"`            // storage driver of the snapshot
	UserNS     *UserNS                              `json:"user_ns,omitempty"` // nil: the host's
	Labels     spec.Labels                          `json:"labels,omitzero"`   // of SELinux
	// NoNewPrivileges is what the daemon's configuration said when it was made, for
	// a container that does not say itself; nil: not known.
	NoNewPrivileges *bool `json:"no_new_privileges,omitempty"`

	State  State  `json:"state"`
	Pid    int    `json:"pid,omitempty"`
	Cgroup string `json:"cgroup,omitempty"` // its control group at the last start, as spec.linux.cgroupsPath
	// Confined is what the daemon's configuration confined it by at its last start.
	Confined Confinement `json:"confined,omitzero"`
	// Pipes are the inode numbers of its standard streams at the last start, 0
	// where one is no pipe: by them they are found in its processes.
	Pipes        [3]uint64 `json:"pipes,omitzero"`
	ExitCode     int       `json:"exit_code"`
	Error        string    `json:"error,omitempty"` // why the last start failed
	OOMKilled    bool      `json:"oom_killed,omitempty"`
	StartedAt    time.Time `json:"started_at"`
	FinishedAt   time.Time `json:"finished_at"`
	RestartCount int       `json:"restart_count,omitempty"`
	// Health is what the checks found; nil without checks, or before the first
	// start.
	Health *container.Health `json:"health,omitempty"`
	// Stopped says that somebody stopped or killed it: its restart policy is
	// suspended until it is started again.
	Stopped bool `json:"stopped,omitempty"`
	// Held says that the engine itself froze it, for the time of an operation
	// that wants its files to stand still: nothing to outlive the engine.
	Held bool `json:"held,omitempty"`

	// foreign are fields of another version, which are written again as they were.
	foreign map[string]json.RawMessage

	// began is StartedAt as a reading of time.Now, whose differences no setting of
	// the clock changes; zero: not known.
	began time.Time
}

// Confinement are the profiles that a container was started with, where it named
// none itself.
type Confinement struct {
	// Pid is that of the first process then. If that is another by now, a version
	// that does not know of this made the last start.
	Pid int `json:"pid"`
	// AppArmor is empty if no profile was named to the kernel.
	AppArmor string `json:"apparmor,omitempty"`
	// Seccomp is empty for the built-in profile, "unconfined", or the digest of a
	// profile's text.
	Seccomp string `json:"seccomp,omitempty"`
}

// IsConfined reports whether the container runs, and Confined tells how.
func (r *Record) IsConfined() bool {
	return r.State.Alive() && r.Confined.Pid != 0 && r.Confined.Pid == r.Pid
}

// Clock finds out when a process that another engine has started began by the
// clock that nobody sets, if anything depends on it.
func (r *Record) Clock() {
	if r.Check() == nil && r.HostConfig.RestartPolicy.IsNone() {
		return
	}
	// By the kernel, not by something that is written: it is true whichever version
	// has started the process.
	if age, err := proc.Age(r.Pid); err == nil {
		r.began = time.Now().Add(-age)
	}
}

// Ran returns for how long the container's process has run, whatever happened
// to the machine's clock meanwhile. now is a reading of time.Now.
func (r *Record) Ran(now time.Time) time.Duration {
	if r.began.IsZero() {
		return now.Sub(r.StartedAt)
	}
	return now.Sub(r.began)
}

// UserNS is a container's user namespace.
type UserNS struct {
	IDs idmap.Map `json:"ids"`
	// Own says that its first line begins a range that was given out to this
	// container alone.
	Own bool `json:"own,omitempty"`
}

// Same reports whether two containers have the same ids; nil: the host's.
func (u *UserNS) Same(o *UserNS) bool {
	return u == nil && o == nil || u != nil && o != nil && u.IDs.Equal(o.IDs)
}

// Mount is a mount of a container: what the user asked for, resolved.
type Mount struct {
	container.MountPoint
	// Options are further mount options: tmpfs data, recursive read-only.
	Options []string `json:"options,omitempty"`
	// NoCopy leaves a new volume empty instead of filling it from the image.
	NoCopy bool `json:"no_copy,omitempty"`
	// Subpath is the directory of the volume or image that is mounted.
	Subpath string `json:"subpath,omitempty"`
	// ImageID is the image of an image mount, whose reference is the name.
	ImageID string `json:"image_id,omitempty"`
	// Created says that the volume was made for this container and has no name
	// of its own; it goes with `rm -v` and `--rm`.
	Anonymous bool `json:"anonymous,omitempty"`
}

// complete checks a record that was read, and fills in what the version that wrote
// it did not know of.
func (r *Record) complete() error {
	if r.ID == "" || r.Config == nil || r.HostConfig == nil || int(r.State) >= len(stateNames) {
		return fmt.Errorf("container record %q is incomplete", r.ID)
	}
	if r.State == Running && r.Health == nil && r.Check() != nil { // a version that did not check has started it
		r.Health = &container.Health{Status: container.Starting}
	}
	return nil
}

// Attributes are what the container's events carry: its labels, image and name.
func (r *Record) Attributes() map[string]string {
	a := make(map[string]string, len(r.Config.Labels)+3)
	maps.Copy(a, r.Config.Labels)
	a["image"], a["name"] = r.Config.Image, r.Name
	return a
}
