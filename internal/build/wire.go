package build

import (
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/digest"
	"lade/internal/errdefs"
)

// ServeVerb is the first argument of lade-build when laded starts it.
const ServeVerb = "serve"

// ListenerFD is the descriptor of lade-build's listening socket.
const ListenerFD = 3

// UsagePath is where lade-build answers GET with its cache, as a list of
// the Docker API's type CacheRecord.
const UsagePath = "/lade/usage"

// HeldHeader names the blobs, separated by commas, that the archive of a
// POST /images leaves out because laded has them.
const HeldHeader = "Lade-Held"

// Config is what lade-build is told at its start.
type Config struct {
	Version      string
	Root         string // directory of the cache, durable
	Run          string // directory of what must not outlive the machine
	Host         string // path of laded's socket
	Blobs        string // directory of laded's blobs, read only for lade-build
	Runtime      string // path of lade-runtime
	CgroupParent string // path below which the control groups of steps are
	AppArmor     string // profile of steps, or ""
	Links        bool   // layers of laded can be lower directories of an overlay
	DNS          []string
	DNSSearch    []string
	DNSOptions   []string
}

// ImageRequest asks for an image.
type ImageRequest struct {
	Reference string            // name[:tag|@digest]
	Platform  *ocispec.Platform // nil: this machine's
	// Fetch asks the registry: for the newest, or because laded has answered
	// NotFound. Otherwise only what laded has is looked at.
	Fetch bool
	Auth  *registry.AuthConfig // nil: anonymous
}

// Image is an image that laded has. Its blobs and layers are held until a PUT
// /held does not name them any more.
type Image struct {
	ID       digest.Digest // of the configuration
	Manifest ocispec.Descriptor
	Config   []byte
	Layers   []Layer // bottom first
}

// Layer is one layer of an image.
type Layer struct {
	Blob   ocispec.Descriptor
	DiffID digest.DiffID
	Chain  digest.ChainID // of the layers up to this one
	// Dir holds the layer's files as overlayfs wants a lower directory; "" where
	// the driver of storage keeps them otherwise.
	Dir string
}

// Reply is one line of the answer to POST /image: progress, then the image or
// the error.
type Reply struct {
	Progress *jsonstream.Message `json:",omitempty"`
	Image    *Image              `json:",omitempty"`
	Error    *Failure            `json:",omitempty"`
}

// Failure is an error with its kind.
type Failure struct {
	Kind    errdefs.Kind
	Message string
}

// FailureOf describes an error.
func FailureOf(err error) *Failure {
	return &Failure{errdefs.KindOf(err), err.Error()}
}

// Err is the error that f describes.
func (f *Failure) Err() error { return &errdefs.Error{Kind: f.Kind, Msg: f.Message} }

// Held are blobs and layers of laded's that the cache uses.
type Held struct {
	Blobs  []digest.Digest
	Chains []digest.ChainID
}

// Network is a connected network namespace.
type Network struct {
	Path string // to be opened before it is taken away again
}

// Loaded are the images that an archive has become.
type Loaded struct {
	IDs []digest.Digest
}
