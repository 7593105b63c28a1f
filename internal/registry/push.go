package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"

	"github.com/moby/moby/api/types/auxprogress"
	"github.com/moby/moby/api/types/jsonstream"
	apiregistry "github.com/moby/moby/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"oras.land/oras-go/v2/registry/remote/auth"

	"lade/internal/digest"
	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/oci"
	"lade/internal/reference"
)

// PushOptions changes what Push does.
type PushOptions struct {
	Platform *ocispec.Platform       // push only the image for it; nil: all that are here
	Auth     *apiregistry.AuthConfig // nil: anonymous
	Progress image.Progress
}

// Push sends what a tag stands for to its registry and returns the digest that
// the tag has there. Manifests, configurations and layers go as they are
// stored, which is as they came: an image that was pulled keeps its digests.
//
// A layer that the registry has in another repository is mounted from there,
// one that the repository has is not sent. It reports progress in Docker's
// words.
//
// Errors: NotFound for a tag that is not here, or a platform; Invalid for a
// reference with a digest; Unauthorized; Forbidden where the registry denies;
// Unavailable for one that cannot be reached or stalls; Exhausted for its rate
// limit; DataLoss for a registry that understood something else; the context's.
func (c *Client) Push(ctx context.Context, ref reference.Reference, o PushOptions) (digest.Digest, error) {
	if ref.Digest != "" {
		return "", errdefs.Invalidf("cannot push a digest reference")
	}
	ref = ref.WithDefaultTag()
	o.Progress = image.Ordered(o.Progress)
	all, err := c.endpoints(ctx, ref.Domain, canPush)
	if err != nil {
		return "", err
	}
	o.Progress(jsonstream.Message{Status: fmt.Sprintf("The push refers to repository [%s]", ref.Name())})
	lease := c.Images.Lease()
	defer func() {
		if err := lease.Release(context.WithoutCancel(ctx)); err != nil {
			c.Logger.Warn("end of a push's lease", "error", err)
		}
	}()
	var last error
	for _, e := range all {
		s, err := c.session(e, ref.Path, o.Auth, auth.ActionPull, auth.ActionPush)
		if err != nil {
			return "", err
		}
		p := &push{c: c, s: s, ref: ref, o: o, lease: lease, done: map[digest.Digest]bool{}}
		d, err := p.run(ctx)
		if err == nil {
			return d, nil
		}
		if cerr := context.Cause(ctx); cerr != nil {
			return "", cerr
		}
		last = pushWords(err)
		// As in a pull: only HTTP after HTTPS can help, and only if nobody was there.
		if p.reached || errdefs.KindOf(err) != errdefs.Unavailable {
			break
		}
	}
	return "", last
}

// pushWords gives a registry's refusal its kind.
func pushWords(err error) error {
	r, ok := errors.AsType[*refusal](err)
	switch {
	case !ok:
		return err
	case errdefs.KindOf(err) == errdefs.Unauthorized:
		return err
	case r.code == "DENIED" || r.status == http.StatusForbidden:
		return errdefs.Forbiddenf("%w", r)
	case r.status == http.StatusTooManyRequests:
		return errdefs.Exhaustedf("%w", r)
	case r.status >= 500:
		return errdefs.Unavailablef("%w", r)
	}
	return errdefs.Internalf("%w", r)
}

// push is one tag on its way.
type push struct {
	c       *Client
	s       *session
	ref     reference.Reference
	o       PushOptions
	lease   *image.Lease
	reached bool                   // the registry has answered
	done    map[digest.Digest]bool // blobs that are there
	images  []*image.Image
}

// parcel is a manifest with what it refers to.
type parcel struct {
	desc     ocispec.Descriptor
	raw      []byte
	manifest *ocispec.Manifest
	diffs    []digest.DiffID // of an image; none of attestations
}

// name is what the progress of a layer is told under.
func (o *parcel) name(layer int) string {
	if layer < len(o.diffs) {
		return digest.Digest(o.diffs[layer]).Short()
	}
	return digest.Digest(o.manifest.Layers[layer].Digest).Short()
}

// run sends everything, the tag last.
func (p *push) run(ctx context.Context) (digest.Digest, error) {
	here, err := p.variants()
	if err != nil {
		return "", err
	}
	if err := p.greet(ctx); err != nil {
		return "", err
	}
	parcels, top, aux, err := p.choose(ctx, here)
	if err != nil {
		return "", err
	}
	if err := p.blobs(ctx, parcels); err != nil {
		return "", err
	}
	for _, one := range parcels {
		if one.desc.Digest == top.desc.Digest {
			continue
		}
		if err := p.put(ctx, one.desc.Digest.String(), one); err != nil {
			return "", err
		}
	}
	if err := p.put(ctx, p.ref.Tag, top); err != nil {
		return "", err
	}
	if err := p.c.Images.Pushed(ctx, p.ref, top.desc, p.images); err != nil {
		p.c.Logger.Warn("the digest of a pushed image", "reference", p.ref.Familiar(), "error", err)
	}
	d := digest.Digest(top.desc.Digest)
	p.o.Progress(jsonstream.Message{Status: fmt.Sprintf("%s: digest: %s size: %d", p.ref.Tag, d, top.desc.Size)})
	for _, v := range append(aux, map[string]any{"Tag": p.ref.Tag, "Digest": d, "Size": top.desc.Size}) {
		raw, err := json.Marshal(v)
		if err != nil {
			return "", err
		}
		p.o.Progress(jsonstream.Message{Progress: &jsonstream.Progress{}, Aux: (*json.RawMessage)(&raw)})
	}
	return d, nil
}

// greet finds out whether there is a registry that takes the credentials, so
// that what goes wrong later is not taken for an unreachable one.
func (p *push) greet(ctx context.Context) error {
	resp, err := p.s.do(ctx, http.MethodGet, "/", nil)
	if err != nil {
		if _, ok := errors.AsType[*refusal](err); !ok || errdefs.KindOf(err) == errdefs.Unauthorized {
			return err
		}
		p.reached = true // some have no such page for those who may push
		return nil
	}
	p.reached = true
	return resp.Body.Close()
}

// variants are the images that the tag stands for, or the one for the wanted
// platform. Errors: NotFound.
func (p *push) variants() ([]*image.Image, error) {
	here, err := p.c.Images.Variants(p.ref)
	if err != nil {
		return nil, errdefs.NotFoundf("An image does not exist locally with the tag: %s", p.ref.Familiar())
	}
	if p.o.Platform == nil {
		return here, nil
	}
	img := image.Best(here, *p.o.Platform)
	if img == nil {
		return nil, errdefs.NotFoundf("image with reference %s was found but does not provide the specified platform (%s)",
			p.ref.Familiar(), oci.FormatPlatform(*p.o.Platform))
	}
	return []*image.Image{img}, nil
}

// choose finds what to send of the images that are here: manifests, and what the
// tag is to be there, with notes on what it cannot be.
func (p *push) choose(ctx context.Context, here []*image.Image) (parcels []*parcel, top *parcel, notes []any, err error) {
	target, err := p.c.Images.Target(p.ref)
	if err != nil {
		return nil, nil, nil, err
	}
	if p.images = here; p.o.Platform == nil && !oci.IsIndex(target.MediaType) {
		p.images = here[:1]
	}
	for _, img := range p.images {
		if err := p.lease.Hold(img.Blobs()...); err != nil {
			return nil, nil, nil, err
		}
		one, err := p.parcel(img)
		if err != nil {
			return nil, nil, nil, err
		}
		parcels = append(parcels, one)
	}
	if p.o.Platform != nil || !oci.IsIndex(target.MediaType) {
		return parcels, parcels[0], nil, nil
	}
	return p.index(ctx, target, parcels)
}

// attested are the attestations of the images that are pushed.
func (p *push) attested() ([]*parcel, error) {
	var out []*parcel
	for _, img := range p.images {
		for _, a := range img.Attested {
			raw, err := p.c.Images.ReadBlob(digest.Digest(a.Manifest.Digest), oci.MaxManifest)
			if err != nil {
				return nil, err
			}
			m, err := oci.ParseAttestation(raw)
			if err != nil {
				return nil, err
			}
			out = append(out, &parcel{desc: a.Manifest, raw: raw, manifest: m})
		}
	}
	return out, nil
}

func (p *push) parcel(img *image.Image) (*parcel, error) {
	raw, err := p.c.Images.ReadBlob(digest.Digest(img.Manifest.Digest), oci.MaxManifest)
	if err != nil {
		return nil, err
	}
	m, err := oci.ParseManifest(raw)
	if err != nil {
		return nil, err
	}
	return &parcel{desc: img.Manifest, raw: raw, manifest: m, diffs: image.DiffIDs(img.Layers)}, nil
}

// index is what a tag that stood for an index becomes: the same index when the
// registry has or gets all that it lists, the manifest when there is but one
// image, else an index of those that are here. Attestations go with an index.
func (p *push) index(ctx context.Context, target ocispec.Descriptor, images []*parcel) (parcels []*parcel, top *parcel, notes []any, err error) {
	raw, err := p.c.Images.ReadBlob(digest.Digest(target.Digest), oci.MaxManifest)
	if err != nil {
		return nil, nil, nil, err
	}
	ix, err := oci.ParseIndex(raw)
	if err != nil {
		return nil, nil, nil, err
	}
	attested, err := p.attested()
	if err != nil {
		return nil, nil, nil, err
	}
	parcels = slices.Concat(images, attested)
	have := func(d ocispec.Descriptor) bool {
		return slices.ContainsFunc(parcels, func(one *parcel) bool { return one.desc.Digest == d.Digest })
	}
	whole := true
	for _, d := range ix.Manifests {
		if have(d) {
			continue
		}
		if ok, err := p.s.has(ctx, "/"+p.s.repo+"/manifests/"+d.Digest.String()); err != nil || !ok {
			whole = false // an error, too, says that it cannot be counted on
			break
		}
	}
	if whole {
		return parcels, &parcel{desc: target, raw: raw}, nil, nil
	}
	if len(images) == 1 {
		note := auxprogress.ManifestPushedInsteadOfIndex{ManifestPushedInsteadOfIndex: true, OriginalIndex: target, SelectedManifest: images[0].desc}
		return images, images[0], []any{note}, nil
	}
	total := len(ix.Manifests)
	ix.Manifests = slices.DeleteFunc(ix.Manifests, func(d ocispec.Descriptor) bool { return !have(d) })
	if raw, err = json.Marshal(ix); err != nil {
		return nil, nil, nil, err
	}
	p.o.Progress(jsonstream.Message{Status: fmt.Sprintf("%d of the %d manifests of the index are here: pushing an index of these", len(ix.Manifests), total)})
	return parcels, &parcel{desc: image.Describe(target.MediaType, raw), raw: raw}, nil, nil
}

// has reports whether the registry has a manifest or a blob.
func (s *session) has(ctx context.Context, path string) (bool, error) {
	var found bool
	err := s.c.retry(ctx, func() (bool, error) {
		resp, err := s.do(ctx, http.MethodHead, path, http.Header{"Accept": oci.Acceptable()})
		if r, ok := errors.AsType[*refusal](err); ok && r.status == http.StatusNotFound {
			found = false
			return false, nil
		}
		if err != nil {
			return false, err
		}
		found = true
		return false, resp.Body.Close()
	})
	return found, err
}

// put stores a manifest or an index under a tag or its digest.
func (p *push) put(ctx context.Context, name string, one *parcel) error {
	return p.c.retry(ctx, func() (bool, error) {
		resp, err := p.s.send(ctx, request{
			method: http.MethodPut, url: p.s.url("/"+p.s.repo+"/manifests/"+name, nil), header: http.Header{"Content-Type": {one.desc.MediaType}},
			body: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(one.raw)), nil }, size: int64(len(one.raw)),
		})
		if err != nil {
			return false, err
		}
		if said := resp.Header.Get("Docker-Content-Digest"); said != "" && said != one.desc.Digest.String() {
			err = errdefs.DataLossf("manifest verification failed: the registry stored %s as %s", one.desc.Digest, said)
		}
		return false, errors.Join(err, resp.Body.Close())
	})
}

// blobs sends layers, a few at a time, and then configurations.
func (p *push) blobs(ctx context.Context, parcels []*parcel) error {
	group, gctx := errgroup.WithContext(ctx)
	group.SetLimit(p.c.Uploads)
	var configs, layers []upload
	for _, one := range parcels {
		for i, d := range one.manifest.Layers {
			if u := (upload{p: p, d: d, id: one.name(i)}); !foreign(d) && p.first(d) {
				layers = append(layers, u)
			}
		}
		if p.first(one.manifest.Config) {
			configs = append(configs, upload{p: p, d: one.manifest.Config})
		}
	}
	for _, u := range layers {
		u.say("Preparing", 0)
	}
	for _, u := range layers {
		group.Go(func() error { return u.run(gctx) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for _, u := range configs {
		if err := u.run(ctx); err != nil {
			return err
		}
	}
	return nil
}

// first reports whether a blob has not been met before in this push.
func (p *push) first(d ocispec.Descriptor) bool {
	met := p.done[digest.Digest(d.Digest)]
	p.done[digest.Digest(d.Digest)] = true
	return !met
}

// foreign reports whether a layer must be fetched from where its descriptor
// says, and may not be pushed.
func foreign(d ocispec.Descriptor) bool { return len(d.URLs) > 0 }
