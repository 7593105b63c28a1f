package wire

import (
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/linux/idmap"
)

// Version is the protocol's version. Both sides say it in Hello; fields may be
// added within a version, a changed meaning needs a new one.
const Version = 1

// FD names a file descriptor that travels with a frame: its index among the
// frame's descriptors, counted from 1; 0 means none.
type FD int

// Hello opens a connection. The supervisor answers Welcome.
type Hello struct {
	Version int `json:"version"`
}

// Welcome tells who answers and what it supervises.
type Welcome struct {
	Version    int       `json:"version"`
	Build      string    `json:"build"`
	Pid        int       `json:"pid"`
	StartedAt  time.Time `json:"started_at"`
	Containers []Live    `json:"containers,omitempty"`
	Exits      []Exited  `json:"exits,omitempty"` // not yet forgotten by Forget
	// Groups are the control groups of containers that a supervisor before this
	// one left behind, with processes or without. Adopt takes one over; Forget
	// says that it is gone.
	Groups []Group `json:"groups,omitempty"`
}

// Group is a container's control group.
type Group struct {
	ID     string `json:"id"`
	Cgroup string `json:"cgroup"` // as spec.linux.cgroupsPath
}

// Live is a running container or exec as the supervisor sees it.
type Live struct {
	ID        string    `json:"id"`
	ExecID    string    `json:"exec_id,omitempty"`
	Pid       int       `json:"pid"`
	StartedAt time.Time `json:"started_at"`
	Frozen    bool      `json:"frozen,omitempty"`
	OOM       bool      `json:"oom,omitempty"` // the kernel killed a process of it for memory
	Cgroup    string    `json:"cgroup,omitempty"`
}

// PutFilter hands over a compiled seccomp filter, once; Start and Exec name it
// by its digest.
type PutFilter struct {
	Digest string `json:"digest"` // of Code
	Code   []byte `json:"code"`   // struct sock_filter[], seccomp(2)
}

// Start starts a container: namespaces, control groups, root file system,
// process. The answer is Started.
type Start struct {
	ID   string      `json:"id"`
	Spec *specs.Spec `json:"spec"` // linux.seccomp is empty: see Filter
	// Filter is the digest of a filter given before, or empty for none.
	Filter string `json:"filter,omitempty"`
	// FilterFlags are those of seccomp(SECCOMP_SET_MODE_FILTER).
	FilterFlags uint      `json:"filter_flags,omitempty"`
	Listener    *Listener `json:"listener,omitempty"`
	Rootfs      Rootfs    `json:"rootfs"`
	// User is "user[:group]" by name or number, resolved in the container's own
	// /etc/passwd and /etc/group; it overrides spec.process.user.
	User     string   `json:"user"`
	GroupAdd []string `json:"group_add,omitempty"`
	// Init asks for lade-init as process 1, with the container's as its child.
	Init bool `json:"init,omitempty"`
	// Delegate lets the container make control groups itself below its own.
	Delegate bool `json:"delegate,omitempty"`
	// OwnParent says that the container has asked for the control group above its
	// own. If the supervisor made it, it goes with the last container in it.
	OwnParent bool `json:"own_parent,omitempty"`
	// Runtime is what runs the container; nil: the supervisor itself. With it
	// linux.seccomp is the filter's profile, and Filter is empty.
	Runtime *Runtime `json:"runtime,omitempty"`
	// NetNS is the network namespace to join; none: what the spec says.
	NetNS FD `json:"net_ns,omitempty"`
	// UserNS is the user namespace to live in, with the map of spec.linux (see
	// MakeUser); none: what the spec says.
	UserNS FD `json:"user_ns,omitempty"`
	// Next are the ids of the container that will probably be started next: the
	// supervisor makes its user namespace when this one has been started. nil: not
	// known.
	Next *idmap.Map `json:"next,omitempty"`
	// Resolver gives the container a name server, in NetNS; nil: it has none.
	Resolver *Resolver `json:"resolver,omitempty"`
	Stdio    Stdio     `json:"stdio"`
	Log      Log       `json:"log"`
	// Attach are the clients that attached before the start.
	Attach []Attach `json:"attach,omitempty"`
}

// Listener names the socket of the program that answers the system calls that
// a filter hands over: OCI runtime-spec, config-linux.md, "Seccomp".
type Listener struct {
	Path     string `json:"path"`
	Metadata string `json:"metadata,omitempty"`
}

// Runtime is a program that runs containers.
type Runtime struct {
	Name string   `json:"name"`
	Kind string   `json:"kind"` // "oci": the OCI runtimes' command line; "lxc": LXC's commands
	Path string   `json:"path"` // of the program; for LXC the directory of the commands, or empty
	Args []string `json:"args,omitempty"`
}

// Rootfs says where a container's root comes from: an overlay to mount
// (Lower not empty) or a directory.
type Rootfs struct {
	Lower    []string `json:"lower,omitempty"` // top layer first
	Upper    string   `json:"upper,omitempty"`
	Work     string   `json:"work,omitempty"`
	Volatile bool     `json:"volatile,omitempty"` // overlayfs(5): no sync; see the kernel's overlayfs.rst
	Path     string   `json:"path,omitempty"`
}

// Stdio says how a process's standard streams are connected. With
// spec.process.terminal all three are one pseudo-terminal.
type Stdio struct {
	Stdin     bool `json:"stdin,omitempty"`      // keep stdin open (docker -i); otherwise /dev/null
	StdinOnce bool `json:"stdin_once,omitempty"` // close stdin when the first attached client leaves
	Stdout    bool `json:"stdout,omitempty"`     // exec only: otherwise /dev/null
	Stderr    bool `json:"stderr,omitempty"`
}

// Log says where a container's output is kept, and where else it goes.
type Log struct {
	Driver   string            `json:"driver"` // how it is kept: "json-file", "local" or "none"
	Path     string            `json:"path,omitempty"`
	MaxSize  int64             `json:"max_size,omitempty"` // bytes a file may have; 0: no rotation
	MaxFile  int               `json:"max_file,omitempty"` // files kept, the current one included
	Compress bool              `json:"compress,omitempty"` // rotated files
	Attrs    map[string]string `json:"attrs,omitempty"`    // written with every line (json-file)
	Target   *Target           `json:"target,omitempty"`   // nil: nowhere else
}

// Target is a program outside that takes a container's output.
type Target struct {
	Driver  string `json:"driver"`  // "journald", "syslog", "gelf" or "fluentd"
	Network string `json:"network"` // "tcp", "udp", "unix" or "unixgram"
	// Addresses are tried one after another: paths, or addresses with ports. Names
	// are looked up by the daemon.
	Addresses []string `json:"addresses"`
	// TLS is how Addresses are spoken with, over the relay that listens on the unix
	// socket Relay; nil: without TLS, and without a relay.
	TLS   *TLS   `json:"tls,omitempty"`
	Relay string `json:"relay,omitempty"`
	// NonBlocking drops what comes while MaxBuffer bytes wait. Otherwise the
	// process's output is not read while they do.
	NonBlocking bool  `json:"non_blocking,omitempty"`
	MaxBuffer   int64 `json:"max_buffer"`

	Container string            `json:"container"` // its id
	Name      string            `json:"name"`
	Tag       string            `json:"tag,omitempty"`
	Host      string            `json:"host,omitempty"`   // the machine's name
	Fields    map[string]string `json:"fields,omitempty"` // sent with every message, under the driver's names
	// Facility and Format are syslog's: "", "rfc3164", "rfc5424", "rfc5424micro".
	Facility int    `json:"facility,omitempty"`
	Format   string `json:"format,omitempty"`
	// Compression is gelf's: "gzip", "zlib" or "none", with a level as in
	// compress/flate.
	Compression string `json:"compression,omitempty"`
	Level       int    `json:"level,omitempty"`
	// SubSecond and Ack are fluentd's: times with nanoseconds, and messages kept
	// until the receiver says that it has them.
	SubSecond bool `json:"sub_second,omitempty"`
	Ack       bool `json:"ack,omitempty"`
}

// Started answers Start, Exec, Adopt and Duplicate. With it come duplicates of
// what the supervisor holds, so that a lost supervisor loses nothing: the
// pidfd, and our ends of the standard streams. Stdin comes only where it stays
// open whoever leaves: a duplicate would keep the process from seeing the end
// of its input when the supervisor closes it (an exec's, or StdinOnce).
type Started struct {
	Pid       int       `json:"pid"`
	StartedAt time.Time `json:"started_at"`
	Pidfd     FD        `json:"pidfd"`
	Console   FD        `json:"console,omitempty"`
	Stdin     FD        `json:"stdin,omitempty"`
	Stdout    FD        `json:"stdout,omitempty"`
	Stderr    FD        `json:"stderr,omitempty"`
	// Prepare and Program are how long the set-up before clone3(2) and the
	// start program itself took, until the execve(2).
	Prepare time.Duration `json:"prepare"`
	Program time.Duration `json:"program"`
}

// Exec starts an additional process in a running container. The answer is
// Started; its end is an Exited with the ExecID.
type Exec struct {
	ID      string         `json:"id"`
	ExecID  string         `json:"exec_id"`
	Process *specs.Process `json:"process"`
	Filter  string         `json:"filter,omitempty"`
	// FilterFlags and Listener are as in Start.
	FilterFlags uint      `json:"filter_flags,omitempty"`
	Listener    *Listener `json:"listener,omitempty"`
	User        string    `json:"user"`
	GroupAdd    []string  `json:"group_add,omitempty"`
	Stdio       Stdio     `json:"stdio"`
	Attach      []Attach  `json:"attach,omitempty"` // at most one
	// Once has its end told to the daemons that are connected then, and not kept:
	// there is no Forget, and its stream ends with it.
	Once bool `json:"once,omitempty"`
	// Keep is how many bytes of its output, both streams as they came, Exited
	// tells. The pipes are then the supervisor's alone. Only with Once, without a
	// terminal.
	Keep int `json:"keep,omitempty"`
}

// Attach connects a client's stream with a running process. Output is framed
// as by stdcopy unless the process has a terminal. The stream is closed when
// the process has ended and its output was passed on.
type Attach struct {
	ID         string `json:"id,omitempty"`
	ExecID     string `json:"exec_id,omitempty"`
	Stream     FD     `json:"stream"` // a connected stream socket, both directions
	Stdin      bool   `json:"stdin,omitempty"`
	Stdout     bool   `json:"stdout,omitempty"`
	Stderr     bool   `json:"stderr,omitempty"`
	Early      []byte `json:"early,omitempty"`       // stdin that was read already
	DetachKeys []byte `json:"detach_keys,omitempty"` // empty: the client cannot detach
	// Raw passes output unframed although there is no terminal.
	Raw bool `json:"raw,omitempty"`
	// Framed frames output although there is a terminal.
	Framed bool `json:"framed,omitempty"`
}

// Signal sends a signal to a process.
type Signal struct {
	ID     string `json:"id"`
	ExecID string `json:"exec_id,omitempty"`
	Signal int    `json:"signal"`
	// All sends it to every process of the container, a frozen one included
	// (SIGKILL only): cgroup.kill, or freeze, kill, thaw on version 1.
	All bool `json:"all,omitempty"`
}

// Resize sets a terminal's size in characters.
type Resize struct {
	ID     string `json:"id"`
	ExecID string `json:"exec_id,omitempty"`
	Rows   uint16 `json:"rows"`
	Cols   uint16 `json:"cols"`
}

// Freeze stops (or with Thaw continues) every process of a container, and
// answers when the kernel says that it is so.
type Freeze struct {
	ID   string `json:"id"`
	Thaw bool   `json:"thaw,omitempty"`
}

// Update changes a running container's limits.
type Update struct {
	ID        string                `json:"id"`
	Resources *specs.LinuxResources `json:"resources"`
}

// Forget drops what is kept of an ended container or exec: its exit record, and
// that its control group was left behind.
type Forget struct {
	ID     string `json:"id"`
	ExecID string `json:"exec_id,omitempty"`
}

// Adopt hands a running container to a supervisor that did not start it: after
// the one that did was lost. The answer is Started.
type Adopt struct {
	ID        string    `json:"id"`
	ExecID    string    `json:"exec_id,omitempty"` // an exec of a container adopted before
	Pid       int       `json:"pid"`
	Pidfd     FD        `json:"pidfd"`
	StartedAt time.Time `json:"started_at"`
	Cgroup    string    `json:"cgroup"` // as spec.linux.cgroupsPath
	Frozen    bool      `json:"frozen,omitempty"`
	Terminal  bool      `json:"terminal,omitempty"`
	Console   FD        `json:"console,omitempty"`
	// Kept says that the terminal is the one that the supervisor may have from its
	// service manager. Where it has none the container goes on without.
	Kept   bool  `json:"kept,omitempty"`
	Stdin  FD    `json:"stdin,omitempty"`
	Stdout FD    `json:"stdout,omitempty"`
	Stderr FD    `json:"stderr,omitempty"`
	Stdio  Stdio `json:"stdio"`
	Log    Log   `json:"log"`
}

// Duplicate asks for the descriptors of a running process again, for a daemon
// that was restarted. The answer is Started.
type Duplicate struct {
	ID     string `json:"id"`
	ExecID string `json:"exec_id,omitempty"`
}

// MakeUser asks for a user namespace with a map, and with Net for a network
// namespace that belongs to it. The answer is MadeUser.
type MakeUser struct {
	IDs idmap.Map `json:"ids"`
	Net bool      `json:"net,omitempty"`
}

// MadeUser answers MakeUser.
type MadeUser struct {
	User FD `json:"user"`
	Net  FD `json:"net,omitempty"`
}

// Upgrade makes the supervisor execute another binary in place: process
// number, children, descriptors and clients' streams are kept, connections of
// the daemon are closed and it connects again. Without it the binary that
// is at the supervisor's path now.
type Upgrade struct {
	Binary FD `json:"binary,omitempty"`
}

// OK answers a request that has no other answer.
type OK struct{}

// Shutdown asks the supervisor to end; it refuses (Conflict) while a container
// runs.
type Shutdown struct{}

// Exited is the event that a process has ended and its output was passed on.
// It is repeated in Welcome until Forget.
type Exited struct {
	ID     string    `json:"id"`
	ExecID string    `json:"exec_id,omitempty"`
	Pid    int       `json:"pid"`
	Code   int       `json:"code"`             // exit status, or 128+n for signal n; -1: not known
	Signal int       `json:"signal,omitempty"` // that ended it
	OOM    bool      `json:"oom,omitempty"`    // the kernel killed a process of it for memory
	At     time.Time `json:"at"`
	Output []byte    `json:"output,omitempty"` // of an Exec with Keep
	More   bool      `json:"more,omitempty"`   // there was more of it
}

// ClearLog removes what is kept of a container's output, whether it runs or
// not: the supervisor is who writes it. The answer is OK.
type ClearLog struct {
	ID   string `json:"id"`
	Path string `json:"path"` // as Log.Path
}

// OOM is the event that the kernel killed a process of a container for memory.
type OOM struct {
	ID string `json:"id"`
}

// Error answers a request that failed.
type Error struct {
	Kind    uint8  `json:"kind"` // errdefs.Kind
	Message string `json:"message"`
	// Code is the exit code that the failed start stands for: 126, 127 or 128;
	// 0 if the failure is not the command's.
	Code int `json:"code,omitempty"`
}
