package pull

import (
	"context"
	"errors"
	"io"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/jsonstream"
	apiregistry "github.com/moby/moby/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/builtin"
	"lade/internal/digest"
	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/image/archive"
	"lade/internal/oci"
	"lade/internal/reference"
	"lade/internal/registry"
)

// Progress receives what a long operation tells its client, in order.
type Progress = image.Progress

// Options is the request of ImagePull.
type Options struct {
	Reference string // as given: name[:tag|@digest]
	Platform  *ocispec.Platform
	Auth      *apiregistry.AuthConfig // nil: anonymous
	All       bool                    // every tag of the repository
	Progress  Progress
}

// ImportOptions is the request of ImageImport.
type ImportOptions struct {
	Source    io.Reader // a tar, compressed or not; unless URL
	URL       string    // where the tar is fetched from
	Reference string    // "" leaves the image untagged
	Message   string
	Changes   []string // Dockerfile instructions
	Platform  *ocispec.Platform
	Progress  Progress
}

// Config is what a puller is made of.
type Config struct {
	Images   *image.Images
	Registry *registry.Live
	Builtin  *builtin.Builtin
	// Publish tells the event log what happened to an image.
	Publish func(action events.Action, id, name string)
}

// Puller brings images in and out.
type Puller struct{ c Config }

// New returns a puller. It needs no closing.
func New(c Config) *Puller { return &Puller{c} }

// ImagePull fetches an image, or with All every tag of a repository, from its
// registry. The built-in image needs none. Errors: Invalid for a bad
// reference, NotFound, Unauthorized, Unavailable, DataLoss for content that is
// not what it claims to be; then nothing of it is left but parts of blobs, with
// which the next pull goes on.
func (p *Puller) ImagePull(ctx context.Context, o Options) error {
	ref, err := reference.Parse(o.Reference)
	if err != nil {
		return err
	}
	q := registry.PullOptions{Platform: o.Platform, Auth: o.Auth, Progress: o.Progress}
	if o.All {
		all, err := p.c.Registry.Client().PullAll(ctx, ref, q)
		for range all {
			p.c.Publish(events.ActionPull, ref.Familiar(), ref.Familiar())
		}
		return err
	}
	ref = ref.WithDefaultTag()
	if builtin.Is(ref) {
		return p.pullBuiltin(ctx, ref, o)
	}
	if _, err := p.c.Registry.Client().Pull(ctx, ref, q); err != nil {
		return err
	}
	p.c.Publish(events.ActionPull, ref.Familiar(), ref.Familiar())
	return nil
}

// pullBuiltin makes the built-in image, which is there for this machine alone.
func (p *Puller) pullBuiltin(ctx context.Context, ref reference.Reference, o Options) error {
	if o.Platform != nil {
		here := oci.Host()
		if _, err := oci.Select(&ocispec.Index{Manifests: []ocispec.Descriptor{{Platform: &here}}}, *o.Platform); err != nil {
			return err
		}
	}
	_, err := p.c.Images.Lookup(ref)
	had := err == nil
	if err := p.c.Builtin.Ensure(ctx); err != nil {
		return err
	}
	if o.Progress != nil {
		status := "Status: Made " + ref.Familiar() + " from the engine itself"
		if had {
			status = "Status: Image is up to date for " + ref.Familiar()
		}
		o.Progress(jsonstream.Message{Status: status})
	}
	p.c.Publish(events.ActionPull, ref.Familiar(), ref.Familiar())
	return nil
}

// ImageLoad reads images from an archive, as `save` writes it: all that it
// holds, or those for the platforms.
func (p *Puller) ImageLoad(ctx context.Context, r io.Reader, platforms []ocispec.Platform, tell Progress) error {
	before := map[digest.Digest]bool{}
	for _, img := range p.c.Images.List() {
		before[img.ID] = true
	}
	err := archive.Load(ctx, p.c.Images, r, archive.LoadOptions{Platforms: platforms, Progress: tell})
	for _, img := range p.c.Images.List() {
		if !before[img.ID] {
			p.c.Publish(events.ActionLoad, img.ID.String(), img.ID.String())
		}
	}
	return err
}

// ImageSave writes images as one archive, which docker load reads too: all that
// the names stand for, or those for the platforms.
func (p *Puller) ImageSave(ctx context.Context, names []string, platforms []ocispec.Platform, w io.Writer) error {
	if len(names) == 0 {
		return errdefs.Invalidf("no image names given")
	}
	if err := archive.Save(ctx, p.c.Images, names, platforms, w); err != nil {
		return err
	}
	for _, n := range names {
		p.c.Publish(events.ActionSave, n, n)
	}
	return nil
}

// ImageImport makes an image of one layer from a tar.
func (p *Puller) ImageImport(ctx context.Context, o ImportOptions) error {
	if o.URL != "" {
		body, size, err := p.c.Registry.Client().Fetch(ctx, o.URL)
		if err != nil {
			return err
		}
		defer body.Close() // nothing to learn: it was read to its end, or an error is returned
		o.Source = fetched(body, size, o)
		if o.Message == "" {
			o.Message = "Imported from " + o.URL
		}
	}
	img, err := archive.Import(ctx, p.c.Images, o.Source, archive.ImportOptions{
		Reference: o.Reference, Message: o.Message, Changes: o.Changes, Platform: o.Platform, Progress: o.Progress,
	})
	if err != nil {
		return err
	}
	p.c.Publish(events.ActionImport, img.ID.String(), img.ID.String())
	return nil
}

// SystemAuth checks credentials with a registry.
func (p *Puller) SystemAuth(ctx context.Context, a apiregistry.AuthConfig) (apiregistry.AuthResponse, error) {
	token, err := p.c.Registry.Client().Login(ctx, a)
	if err != nil {
		if errors.Is(err, errdefs.Unauthorized) || errors.Is(err, errdefs.Invalid) {
			return apiregistry.AuthResponse{}, err
		}
		return apiregistry.AuthResponse{}, errdefs.Internalf("login attempt to %s failed: %w", a.ServerAddress, err)
	}
	return apiregistry.AuthResponse{Status: "Login Succeeded", IdentityToken: token}, nil
}

// fetched tells the client how much of a download has come.
func fetched(body io.Reader, size int64, o ImportOptions) io.Reader {
	tell := image.Ordered(o.Progress)
	tell(jsonstream.Message{Status: "Downloading from " + o.URL})
	throttle := image.NewThrottle()
	var n int64
	return reader(func(b []byte) (int, error) {
		got, err := body.Read(b)
		if n += int64(got); throttle.Pass(n == size) {
			tell(jsonstream.Message{Status: "Importing", Progress: &jsonstream.Progress{Current: n, Total: max(size, 0)}})
		}
		return got, err
	})
}

// reader is a function that reads.
type reader func([]byte) (int, error)

func (r reader) Read(b []byte) (int, error) { return r(b) }
