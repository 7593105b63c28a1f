package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/jsonstream"
	apiregistry "github.com/moby/moby/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/semaphore"
	"oras.land/oras-go/v2/registry/remote/auth"

	"lade/internal/digest"
	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/oci"
	"lade/internal/reference"
)

// PullOptions changes what Pull does.
type PullOptions struct {
	Platform *ocispec.Platform       // nil: the host's
	Auth     *apiregistry.AuthConfig // nil: anonymous
	Progress image.Progress
}

// Pull fetches an image and gives it its names: the tag, and the digest that
// the tag stands for. It reports progress in Docker's words.
//
// Errors, in Docker's words: NotFound for an unknown repository, tag or
// platform, or one that needs credentials; Unauthorized; Invalid for what is
// not an image; DataLoss for a registry that sends something else than it
// announced; Unavailable for one that cannot be reached or stalls; Exhausted
// for its rate limit and a full disk; the context's.
func (c *Client) Pull(ctx context.Context, ref reference.Reference, o PullOptions) (*image.Image, error) {
	ref = ref.WithDefaultTag()
	o.Progress = image.Ordered(o.Progress)
	if o.Platform == nil {
		host := oci.Host()
		o.Platform = &host
	}
	all, err := c.endpoints(ctx, ref.Domain, wanted(ref))
	if err != nil {
		return nil, err
	}
	lease := c.Images.Lease()
	p := &pull{c: c, ref: ref, o: o, lease: lease}
	m, img, changed, err := p.from(ctx, all)
	switch errdefs.KindOf(err) {
	case errdefs.Unavailable, errdefs.Canceled, errdefs.Deadline:
		lease.Keep() // trying again goes on with what was fetched
		return nil, err
	}
	if lerr := lease.Release(context.WithoutCancel(ctx)); lerr != nil {
		c.Logger.Warn("end of a pull's lease", "error", lerr)
	}
	if err != nil {
		return nil, err
	}
	o.Progress(jsonstream.Message{Status: "Digest: " + m.digest.String()})
	word := "Image is up to date for "
	if changed {
		word = "Downloaded newer image for "
	}
	o.Progress(jsonstream.Message{Status: "Status: " + word + ref.Familiar()})
	return img, nil
}

// wanted is what an endpoint must be able to do for a reference.
func wanted(ref reference.Reference) capability {
	if ref.Digest != "" {
		return canPull
	}
	return canResolve
}

// from pulls from the first endpoint that has the whole image. A mirror that
// has only the manifest, or lies, or breaks off, is passed over; what it gave
// is not fetched again.
func (p *pull) from(ctx context.Context, all []endpoint) (m *document, img *image.Image, changed bool, err error) {
	tag := p.ref.Tag
	if p.ref.Digest != "" {
		tag = p.ref.Digest.String()
	}
	for len(all) > 0 {
		var s *session
		if s, m, all, err = p.c.resolve(ctx, p.ref, p.o.Auth, all); err != nil {
			return nil, nil, false, err
		}
		p.o.Progress(jsonstream.Message{ID: tag, Status: "Pulling from " + p.ref.Path})
		p.s = s
		img, changed, err = p.run(ctx, m)
		if err == nil || !s.e.mirror || len(all) == 0 {
			return m, img, changed, err
		}
		if k := errdefs.KindOf(err); k == errdefs.Canceled || k == errdefs.Deadline || k == errdefs.Exhausted {
			return nil, nil, false, err
		}
		p.c.Logger.Warn("a mirror failed", "mirror", s.e.base.Redacted(), "reference", p.ref.Familiar(), "error", err)
	}
	return nil, nil, false, err
}

// PullAll pulls every tag of a repository.
func (c *Client) PullAll(ctx context.Context, repo reference.Reference, o PullOptions) ([]*image.Image, error) {
	tags, err := c.tags(ctx, repo, o.Auth)
	if err != nil {
		return nil, err
	}
	var out []*image.Image
	for _, t := range tags {
		ref, err := repo.WithTag(t)
		if err != nil {
			return out, err
		}
		img, err := c.Pull(ctx, ref, o)
		if err != nil {
			return out, err
		}
		out = append(out, img)
	}
	return out, nil
}

// Inspect returns what a registry has under a reference, without fetching it.
func (c *Client) Inspect(ctx context.Context, ref reference.Reference, a *apiregistry.AuthConfig) (*apiregistry.DistributionInspect, error) {
	ref = ref.WithDefaultTag()
	all, err := c.endpoints(ctx, ref.Domain, wanted(ref))
	if err != nil {
		return nil, err
	}
	s, m, _, err := c.resolve(ctx, ref, a, all)
	if err != nil {
		return nil, err
	}
	out := &apiregistry.DistributionInspect{Descriptor: m.descriptor()}
	if oci.IsIndex(m.mediaType) {
		ix, err := oci.ParseIndex(m.raw)
		if err != nil {
			return nil, err
		}
		for _, d := range ix.Manifests {
			if d.Platform != nil {
				out.Platforms = append(out.Platforms, *d.Platform)
			}
		}
		return out, nil
	}
	man, err := oci.ParseManifest(m.raw)
	if err != nil {
		return nil, err
	}
	raw, err := s.small(ctx, man.Config)
	if err != nil {
		return nil, err
	}
	config, _, err := oci.ParseImage(raw)
	if err != nil {
		return nil, err
	}
	out.Platforms = []ocispec.Platform{config.Platform}
	return out, nil
}

// document is a manifest or an index as a registry sent it.
type document struct {
	raw       []byte
	digest    digest.Digest
	mediaType string
}

func (d *document) descriptor() ocispec.Descriptor { return image.Describe(d.mediaType, d.raw) }

// resolve finds the first of the endpoints that has the reference, and also
// returns those after it.
func (c *Client) resolve(ctx context.Context, ref reference.Reference, a *apiregistry.AuthConfig, all []endpoint) (*session, *document, []endpoint, error) {
	var last error
	for i, e := range all {
		s, err := c.session(e, ref.Path, a, auth.ActionPull)
		if err != nil {
			return nil, nil, nil, err
		}
		name := ref.Tag
		if ref.Digest != "" {
			name = ref.Digest.String()
		}
		m, err := s.manifest(ctx, name, ref.Digest)
		if err == nil {
			return s, m, all[i+1:], nil
		}
		if cerr := context.Cause(ctx); cerr != nil {
			return nil, nil, nil, cerr
		}
		last = inWords(ref, err)
		// Only the next way to reach it can help; a registry that has
		// answered, in the way that was right, has answered.
		if !e.mirror && errdefs.KindOf(err) != errdefs.Unavailable {
			break
		}
	}
	return nil, nil, nil, last
}

// inWords gives a registry's refusal the words and kind that Docker's has.
func inWords(ref reference.Reference, err error) error {
	if errdefs.KindOf(err) == errdefs.Unauthorized {
		if r, ok := errors.AsType[*refusal](err); !ok || r.code != "DENIED" {
			return err
		}
	}
	r, ok := errors.AsType[*refusal](err)
	if !ok {
		return err
	}
	switch {
	case r.code == "DENIED" || r.status == http.StatusForbidden:
		return errdefs.NotFoundf("pull access denied for %s, repository does not exist or may require 'docker login': %w", ref.FamiliarName(), r)
	case r.code == "NAME_UNKNOWN":
		return errdefs.NotFoundf("repository %s not found: %w", ref.FamiliarName(), r)
	case r.code == "MANIFEST_UNKNOWN":
		return errdefs.NotFoundf("manifest for %s not found: %w", ref.Familiar(), r)
	case r.status == http.StatusNotFound:
		return errdefs.NotFoundf("manifest for %s not found: manifest unknown: %w", ref.Familiar(), r)
	case r.status == http.StatusTooManyRequests:
		return errdefs.Exhaustedf("%w", r)
	case r.status >= 500:
		return errdefs.Unavailablef("%w", r)
	}
	return errdefs.Internalf("%w", r)
}

// manifest fetches a manifest or index, by tag or digest, and checks it.
func (s *session) manifest(ctx context.Context, name string, want digest.Digest) (*document, error) {
	var d *document
	first := true
	err := s.c.retry(ctx, func() (bool, error) {
		resp, err := s.do(ctx, http.MethodGet, "/"+s.repo+"/manifests/"+name, http.Header{"Accept": oci.Acceptable()})
		if err != nil {
			// A registry that cannot be reached at all is not waited for.
			if first && errdefs.KindOf(err) == errdefs.Unavailable {
				return false, &unreachable{err}
			}
			return false, err
		}
		first = false
		d, err = readManifest(resp, want)
		return false, errors.Join(err, resp.Body.Close())
	})
	if u, ok := errors.AsType[*unreachable](err); ok {
		return nil, u.error
	}
	return d, err
}

// unreachable hides from retry that a failure may be temporary.
type unreachable struct{ error }

func readManifest(resp *http.Response, want digest.Digest) (*document, error) {
	raw, err := io.ReadAll(io.LimitReader(resp.Body, oci.MaxManifest+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > oci.MaxManifest {
		return nil, errdefs.Invalidf("invalid manifest: more than %d bytes", oci.MaxManifest)
	}
	d := &document{raw: raw, digest: digest.FromBytes(raw)}
	if said := resp.Header.Get("Docker-Content-Digest"); want == "" && strings.HasPrefix(said, "sha256:") {
		want = digest.Digest(said)
	}
	if want != "" && d.digest != want {
		return nil, errdefs.DataLossf("manifest verification failed for digest %s", want)
	}
	claimed, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";")
	d.mediaType, err = oci.MediaType(raw, strings.TrimSpace(claimed))
	return d, err
}

// small fetches a blob into memory.
func (s *session) small(ctx context.Context, d ocispec.Descriptor) ([]byte, error) {
	if d.Size > oci.MaxConfig {
		return nil, errdefs.Invalidf("invalid image config: %d bytes", d.Size)
	}
	var raw []byte
	err := s.c.retry(ctx, func() (bool, error) {
		resp, err := s.do(ctx, http.MethodGet, s.blobPath(d), nil)
		if err != nil {
			return false, err
		}
		raw, err = io.ReadAll(io.LimitReader(resp.Body, d.Size+1))
		return false, errors.Join(err, resp.Body.Close())
	})
	if err == nil && (int64(len(raw)) != d.Size || digest.FromBytes(raw) != digest.Digest(d.Digest)) {
		err = errdefs.DataLossf("image config verification failed for digest %s", d.Digest)
	}
	return raw, err
}

func (s *session) blobPath(d ocispec.Descriptor) string {
	return "/" + s.repo + "/blobs/" + d.Digest.String()
}

// tags lists the tags of a repository.
func (c *Client) tags(ctx context.Context, ref reference.Reference, a *apiregistry.AuthConfig) ([]string, error) {
	var last error
	all, err := c.endpoints(ctx, ref.Domain, canResolve)
	if err != nil {
		return nil, err
	}
	for _, e := range all {
		s, err := c.session(e, ref.Path, a, auth.ActionPull)
		if err != nil {
			return nil, err
		}
		var body struct{ Tags []string }
		resp, err := s.do(ctx, http.MethodGet, "/"+s.repo+"/tags/list", nil)
		if err == nil {
			err = errors.Join(json.NewDecoder(io.LimitReader(resp.Body, oci.MaxConfig)).Decode(&body), resp.Body.Close())
			slices.Sort(body.Tags)
			return body.Tags, err
		}
		last = inWords(ref, err)
		if !e.mirror && errdefs.KindOf(err) != errdefs.Unavailable {
			break
		}
	}
	return nil, last
}

// pull is one image on its way.
type pull struct {
	c     *Client
	s     *session
	ref   reference.Reference
	o     PullOptions
	lease *image.Lease
}

func (p *pull) run(ctx context.Context, target *document) (*image.Image, bool, error) {
	chosen := target
	if oci.IsIndex(target.mediaType) {
		ix, err := oci.ParseIndex(target.raw)
		if err != nil {
			return nil, false, err
		}
		d, err := oci.Select(ix, *p.o.Platform)
		if err != nil {
			return nil, false, err
		}
		if chosen, err = p.s.manifest(ctx, d.Digest.String(), digest.Digest(d.Digest)); err != nil {
			return nil, false, inWords(p.ref, err)
		}
		if int64(len(chosen.raw)) != d.Size {
			return nil, false, errdefs.DataLossf("manifest %s: %d bytes, the index says %d", d.Digest, len(chosen.raw), d.Size)
		}
	}
	m, err := oci.ParseManifest(chosen.raw)
	if err != nil {
		return nil, false, err
	}
	layers, err := p.documents(ctx, m, target, chosen)
	if err != nil {
		return nil, false, err
	}
	names := []reference.Reference{p.ref.WithDigest(target.digest)}
	if p.ref.Digest == "" {
		names = append(names, p.ref)
	}
	changed := !p.known(digest.Digest(m.Config.Digest), names)
	if err := p.layers(ctx, layers); err != nil {
		return nil, false, err
	}
	attested, err := p.attestations(ctx, target, chosen)
	if err != nil {
		return nil, false, err
	}
	img, err := p.c.Images.Add(ctx, image.Addition{
		Manifest: chosen.descriptor(), Target: target.descriptor(), Layers: layers, Names: names, Attested: attested,
	})
	return img, changed, err
}

// known reports whether the image has all the names already.
func (p *pull) known(id digest.Digest, names []reference.Reference) bool {
	for _, n := range names {
		if img, err := p.c.Images.Lookup(n); err != nil || img.ID != id {
			return false
		}
	}
	return true
}

// documents stores manifests and configuration, and returns the layers.
func (p *pull) documents(ctx context.Context, m *ocispec.Manifest, target, chosen *document) ([]image.Layer, error) {
	hold := []digest.Digest{target.digest, chosen.digest, digest.Digest(m.Config.Digest)}
	for _, l := range m.Layers {
		hold = append(hold, digest.Digest(l.Digest))
	}
	if err := p.lease.Hold(hold...); err != nil {
		return nil, err
	}
	config, err := p.c.Images.ReadBlob(digest.Digest(m.Config.Digest), oci.MaxConfig)
	if errdefs.KindOf(err) == errdefs.NotFound {
		if config, err = p.s.small(ctx, m.Config); err == nil {
			_, err = p.c.Images.Content().WriteBlob(ctx, config)
		}
	}
	if err != nil {
		return nil, inWords(p.ref, err)
	}
	_, diffs, err := oci.ParseImage(config)
	if err != nil {
		return nil, err
	}
	if len(diffs) != len(m.Layers) {
		return nil, errdefs.Invalidf("invalid image: the manifest has %d layers, the config %d", len(m.Layers), len(diffs))
	}
	for _, d := range []*document{target, chosen} {
		if _, err := p.c.Images.Content().WriteBlob(ctx, d.raw); err != nil {
			return nil, err
		}
	}
	layers := make([]image.Layer, len(diffs))
	for i, d := range m.Layers {
		layers[i] = image.Layer{Blob: d, DiffID: diffs[i]}
	}
	return layers, nil
}

// layers downloads, a few at a time, and unpacks in order meanwhile.
func (p *pull) layers(ctx context.Context, layers []image.Layer) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	chains := digest.Chain(image.DiffIDs(layers))
	if err := p.lease.HoldChains(chains...); err != nil {
		return err
	}
	say := func(i int, status string, current, total int64) {
		m := jsonstream.Message{ID: digest.Digest(layers[i].Blob.Digest).Short(), Status: status}
		if total > 0 {
			m.Progress = &jsonstream.Progress{Current: current, Total: total}
		}
		p.o.Progress(m)
	}
	ready := make([]chan struct{}, len(layers))
	present := make([]bool, len(layers))
	for i, l := range layers {
		ready[i] = make(chan struct{})
		_, berr := p.c.Images.Content().Stat(digest.Digest(l.Blob.Digest))
		_, serr := p.c.Images.Snapshotter().Stat(ctx, image.SnapshotKey(chains[i]))
		if present[i] = berr == nil && serr == nil; present[i] {
			say(i, "Already exists", 0, 0)
			close(ready[i])
			continue
		}
		say(i, "Pulling fs layer", 0, 0)
	}
	slots := semaphore.NewWeighted(int64(p.c.Concurrency))
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(nil) // before Wait
	for i, l := range layers {
		if present[i] {
			continue
		}
		wg.Go(func() {
			if !slots.TryAcquire(1) {
				say(i, "Waiting", 0, 0)
				if slots.Acquire(ctx, 1) != nil {
					return // the pull has failed or was cancelled
				}
			}
			defer slots.Release(1)
			if !p.c.slots.TryAcquire(1) {
				say(i, "Waiting", 0, 0)
				if p.c.slots.Acquire(ctx, 1) != nil {
					return
				}
			}
			defer p.c.slots.Release(1)
			throttle := image.NewThrottle()
			err := p.blob(ctx, l.Blob, func(n int64) {
				if throttle.Pass(n == l.Blob.Size) {
					say(i, "Downloading", n, l.Blob.Size)
				}
			}, func() { say(i, "Verifying Checksum", 0, 0) })
			if err != nil {
				cancel(inWords(p.ref, err))
				return
			}
			say(i, "Download complete", 0, 0)
			close(ready[i])
		})
	}
	throttles := image.NewThrottles(len(layers))
	err := p.c.Images.Unpack(ctx, p.lease, layers, image.UnpackOptions{
		Ready: func(ctx context.Context, i int) error {
			select {
			case <-ready[i]:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		},
		Progress: func(i int, done int64) {
			if throttles[i].Pass(done == layers[i].Blob.Size) {
				say(i, "Extracting", done, layers[i].Blob.Size)
			}
		},
		Done: func(i int, _ bool) {
			if !present[i] {
				say(i, "Pull complete", 0, 0)
			}
		},
	})
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause // what made the others give up
	}
	return err
}

// blob brings a blob into the content store, or waits for another pull that
// is at it.
func (p *pull) blob(ctx context.Context, d ocispec.Descriptor, progress func(int64), verifying func()) error {
	dg := digest.Digest(d.Digest)
	for {
		if _, err := p.c.Images.Content().Stat(dg); err == nil {
			return nil
		}
		other, end := p.c.flights.join(dg)
		if other == nil {
			err := p.download(ctx, d, progress, verifying)
			end()
			return err
		}
		select {
		case <-other:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// join begins the download of a blob, which the caller must end; or returns the
// one that is under way.
func (f *flights) join(d digest.Digest) (other <-chan struct{}, end func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c, ok := f.all[d]; ok {
		return c, nil
	}
	mine := make(chan struct{})
	f.all[d] = mine
	return nil, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.all, d)
		close(mine)
	}
}

// download receives a blob, going on where an earlier attempt ended.
func (p *pull) download(ctx context.Context, d ocispec.Descriptor, progress func(int64), verifying func()) error {
	for again := true; ; again = false {
		w, err := p.c.Images.Content().Writer(ctx, d.Digest.String(), digest.Digest(d.Digest), d.Size)
		if err != nil {
			return err
		}
		old := w.Offset() > 0
		err = p.c.retry(ctx, func() (bool, error) {
			if w.Offset() == d.Size {
				return true, nil
			}
			from := w.Offset()
			err := p.s.rest(ctx, d, w, progress)
			return w.Offset() > from, err
		})
		switch errdefs.KindOf(err) {
		case errdefs.Unavailable, errdefs.Canceled, errdefs.Deadline:
			return errors.Join(err, w.Close()) // a later pull goes on
		}
		if err != nil {
			return errors.Join(err, w.Abort())
		}
		verifying()
		// All of it is here: a pull that fails meanwhile takes it away whole.
		_, err = p.lease.Commit(context.WithoutCancel(ctx), w)
		if errdefs.KindOf(err) == errdefs.DataLoss && old && again {
			continue // what an earlier pull left may have been the bad part
		}
		if errdefs.KindOf(err) == errdefs.DataLoss {
			return errdefs.DataLossf("filesystem layer verification failed for digest %s", d.Digest)
		}
		return err
	}
}

// target is what a download goes to.
type target interface {
	io.Writer
	Offset() int64
}

// rest receives what is missing of a blob.
func (s *session) rest(ctx context.Context, d ocispec.Descriptor, w target, progress func(int64)) error {
	from := w.Offset()
	header := http.Header{}
	if from > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, d.Size-1))
	}
	resp, err := s.do(ctx, http.MethodGet, s.blobPath(d), header)
	if err != nil {
		return err
	}
	defer resp.Body.Close() // of a body that was read: nothing to learn
	switch {
	case resp.StatusCode == http.StatusPartialContent && from > 0:
		if got := resp.Header.Get("Content-Range"); !strings.HasPrefix(got, fmt.Sprintf("bytes %d-", from)) {
			return errdefs.DataLossf("blob %s: asked for bytes from %d, got %q", d.Digest, from, got)
		}
	case resp.StatusCode == http.StatusOK: // a registry without ranges sends all
		if resp.ContentLength >= 0 && resp.ContentLength != d.Size {
			return errdefs.DataLossf("blob %s: the registry sends %d bytes, the manifest says %d", d.Digest, resp.ContentLength, d.Size)
		}
		if _, err := io.CopyN(io.Discard, resp.Body, from); err != nil {
			return err
		}
	default:
		return errdefs.Internalf("blob %s: unexpected HTTP status %s", d.Digest, resp.Status)
	}
	told := reporting{w, progress}
	watch := &pace{c: s.c, begun: time.Now(), first: w.Offset(), size: d.Size}
	splits := !s.whole.Load() && (resp.StatusCode == http.StatusPartialContent || resp.Header.Get("Accept-Ranges") == "bytes")
	if err = watch.stream(told, resp.Body, splits); err == errSlow {
		if err = resp.Body.Close(); err == nil {
			err = s.ranges(ctx, d, told)
		}
	}
	if err != nil {
		return err
	}
	if w.Offset() < d.Size {
		return errdefs.Unavailablef("blob %s: the registry ended after %d of %d bytes", d.Digest, w.Offset(), d.Size)
	}
	return nil
}

// reporting tells how much has been written.
type reporting struct {
	target
	tell func(int64)
}

func (r reporting) Write(p []byte) (int, error) {
	n, err := r.target.Write(p)
	r.tell(r.Offset())
	return n, err
}
