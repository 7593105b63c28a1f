package engine

import (
	"iter"
	"os"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/filters"
	"lade/internal/logs"
	"lade/internal/netrate"
)

// CreateOptions is the request of ContainerCreate.
type CreateOptions struct {
	Name       string // "" picks one
	Platform   *ocispec.Platform
	Config     *container.Config
	HostConfig *container.HostConfig // nil: all defaults
	NetRates   netrate.Asked         // beside those that annotations ask for
	Networking *network.NetworkingConfig
	// AdjustCPUShares is set for API versions before 1.22, which clamp.
	AdjustCPUShares bool
	// ReadOnlyNonRecursive is set for API versions before 1.44: read-only binds in
	// HostConfig.Binds leave the mounts below them as they are.
	ReadOnlyNonRecursive bool
}

// StopOptions is the request of ContainerStop and ContainerRestart.
type StopOptions struct {
	Signal  string // "" is the container's own stop signal
	Timeout *int   // seconds until SIGKILL; nil is the container's own, -1 waits forever
}

// RemoveOptions is the request of ContainerRemove.
type RemoveOptions struct {
	Force   bool // kill it first
	Volumes bool // remove its anonymous volumes too
	Link    bool // remove a link by its name, container/alias, instead
}

// ListOptions is the request of ContainerList.
type ListOptions struct {
	All     bool
	Size    bool
	Limit   int // of the newest, stopped ones included; 0: no limit
	Filters filters.Args
}

// LogsOptions is the request of ContainerLogs.
type LogsOptions struct {
	Stdout, Stderr bool
	Follow         bool
	Since, Until   time.Time // zero: no bound
	Tail           int       // lines from the end; -1: all
}

// LogStream is a container's output, read back.
type LogStream struct {
	Tty      bool // stdout only, to be sent without frames
	Messages iter.Seq2[logs.Message, error]
}

// Conn is a client's connection, taken over from the HTTP server after the
// answer's header was written. Whoever receives it closes File.
type Conn struct {
	File  *os.File // a connected stream socket
	Early []byte   // what the client sent already
}

// Hijack writes the header of a streaming answer (101 or 200, as the client
// asked) and takes the connection over. tty tells the media type: raw-stream
// or multiplexed-stream. It is called at most once, and not when the request
// is refused.
type Hijack func(tty bool) (Conn, error)

// AttachOptions is the request of ContainerAttach.
type AttachOptions struct {
	Stdin, Stdout, Stderr bool
	Stream                bool // go on with live output
	Logs                  bool // replay what was logged
	DetachKeys            string
	Hijack                Hijack
}

// ExecStartOptions is the request of ExecStart.
type ExecStartOptions struct {
	Detach      bool
	Tty         bool     // the client reads output as it comes, not framed
	ConsoleSize *[2]uint // height, width
	Hijack      Hijack   // nil when Detach
}

// ImageListOptions is the request of ImageList.
type ImageListOptions struct {
	All        bool
	SharedSize bool
	Manifests  bool
	Filters    filters.Args
}

// ImageRemoveOptions is the request of ImageRemove.
type ImageRemoveOptions struct {
	Force     bool
	NoPrune   bool
	Platforms []ocispec.Platform // of a name: only the images for these
}

// EventsOptions is the request of Events.
type EventsOptions struct {
	Since, Until time.Time // zero: from now on, without end
	Filters      filters.Args
}

// EventStream yields events until the context ends or Until has passed.
type EventStream = iter.Seq2[events.Message, error]
