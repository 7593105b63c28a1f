package worker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/platforms"
	"github.com/moby/buildkit/cache"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/auth"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/source"
	"github.com/moby/buildkit/source/containerimage"
	"github.com/moby/buildkit/util/progress"
	"github.com/moby/buildkit/util/resolver"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/api/types/registry"
	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/build"
	"lade/internal/errdefs"
)

// imageSource takes images from laded. What it does not have it pulls, with
// the credentials of the session; such an image is then one of laded's.
type imageSource struct {
	*containerimage.Source // for its reading of identifiers
	host                   *build.Host
	store                  content.Provider // which has laded's blobs, too
	loans                  *borrowed
	cache                  cache.Accessor
}

// find returns an image of laded's.
func (s *imageSource) find(ctx context.Context, ref string, p *ocispec.Platform, mode resolver.ResolveMode, sm *session.Manager, g session.Group) (*build.Image, error) {
	q := build.ImageRequest{Reference: ref, Platform: p}
	if mode != resolver.ResolveModeForcePull {
		img, err := s.host.Image(ctx, q, nil)
		if errdefs.KindOf(err) != errdefs.NotFound {
			return img, err
		}
	}
	q.Fetch, q.Auth = true, credentials(ctx, ref, sm, g)
	tell, done := pulling(ctx, ref)
	img, err := s.host.Image(ctx, q, tell)
	done(err)
	return img, err
}

// credentials asks the client for those of an image's registry. It has none for
// most.
func credentials(ctx context.Context, ref string, sm *session.Manager, g session.Group) *registry.AuthConfig {
	if g == nil {
		return nil
	}
	host, _, _ := strings.Cut(ref, "/")
	if host == "docker.io" {
		host = "registry-1.docker.io"
	}
	_, user, secret, err := auth.CredentialsFunc(ctx, sm, g)(host)
	switch {
	case err != nil || secret == "":
		return nil
	case user == "":
		return &registry.AuthConfig{IdentityToken: secret, ServerAddress: host}
	}
	return &registry.AuthConfig{Username: user, Password: secret, ServerAddress: host}
}

// pulling shows how a pull goes on, as statuses of the vertex of ctx.
func pulling(ctx context.Context, ref string) (tell func(jsonstream.Message), done func(error)) {
	w, _, _ := progress.NewFromContext(ctx)
	began := time.Now()
	write := func(id string, s progress.Status) { _ = w.Write(id, s) }
	write("pulling "+ref, progress.Status{Action: "pulling", Started: &began})
	layers := map[string]*progress.Status{}
	tell = func(m jsonstream.Message) {
		if m.ID == "" || m.Progress == nil && layers[m.ID] == nil {
			return
		}
		l := layers[m.ID]
		if l == nil {
			now := time.Now()
			l = &progress.Status{Started: &now}
			layers[m.ID] = l
		}
		l.Action = m.Status
		if m.Progress != nil {
			l.Current, l.Total = int(m.Progress.Current), int(m.Progress.Total)
		}
		write(m.ID, *l)
	}
	return tell, func(error) {
		now := time.Now()
		for id, l := range layers {
			l.Completed = &now
			write(id, *l)
		}
		write("pulling "+ref, progress.Status{Action: "done", Started: &began, Completed: &now})
		_ = w.Close()
	}
}

// metadata answers what an image is, for FROM.
func (s *imageSource) metadata(ctx context.Context, id *containerimage.ImageIdentifier, o *sourceresolver.ResolveImageOpt, sm *session.Manager, g session.Group) (*sourceresolver.ResolveImageResponse, error) {
	mode := id.ResolveMode
	if o.ResolveMode != "" {
		var err error
		if mode, err = resolver.ParseImageResolveMode(o.ResolveMode); err != nil {
			return nil, err
		}
	}
	s.loans.using.RLock()
	defer s.loans.using.RUnlock()
	img, err := s.find(ctx, id.Reference.String(), o.Platform, mode, sm, g)
	if err != nil {
		return nil, err
	}
	return &sourceresolver.ResolveImageResponse{Digest: img.Manifest.Digest, Config: img.Config}, nil
}

// Resolve implements source.Source.
func (s *imageSource) Resolve(_ context.Context, id source.Identifier, sm *session.Manager, _ solver.Vertex) (source.SourceInstance, error) {
	i, ok := id.(*containerimage.ImageIdentifier)
	if !ok {
		return nil, fmt.Errorf("invalid image identifier %v", id)
	}
	return &imageInstance{s: s, id: i, sm: sm}, nil
}

// imageInstance is one FROM.
type imageInstance struct {
	s  *imageSource
	id *containerimage.ImageIdentifier
	sm *session.Manager

	mu  sync.Mutex // held while the image is looked for
	img *build.Image
}

func (i *imageInstance) image(ctx context.Context, job solver.JobContext) (*build.Image, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.img != nil {
		return i.img, nil
	}
	var g session.Group
	if job != nil {
		g = job.Session()
	}
	mode := i.id.ResolveMode
	if i.id.Reference.Digest() != "" {
		mode = resolver.ResolveModePreferLocal // it cannot be another
	}
	img, err := i.s.find(ctx, i.id.Reference.String(), i.id.Platform, mode, i.sm, g)
	if err != nil {
		return nil, err
	}
	if want := i.id.Checksum; want != "" && img.Manifest.Digest != want {
		return nil, fmt.Errorf("image digest %s for %s does not match expected checksum %s", img.Manifest.Digest, i.id.Reference, want)
	}
	if n := i.id.LayerLimit; n != nil {
		if *n > len(img.Layers) {
			return nil, fmt.Errorf("layer limit %d is greater than the number of layers in the image %d", *n, len(img.Layers))
		}
		img.Layers = img.Layers[:*n]
	}
	i.img = img
	return img, nil
}

// CacheKey implements source.SourceInstance.
func (i *imageInstance) CacheKey(ctx context.Context, job solver.JobContext, _ int) (key, pin string, _ solver.CacheOpts, done bool, err error) {
	i.s.loans.using.RLock()
	defer i.s.loans.using.RUnlock()
	img, err := i.image(ctx, job)
	if err != nil {
		return "", "", nil, false, err
	}
	p := platforms.DefaultSpec()
	if i.id.Platform != nil {
		p = *i.id.Platform
	}
	key = fmt.Sprintf("%s %s %d", img.Manifest.Digest, platforms.FormatAll(p), len(img.Layers))
	opts := solver.CacheOpts{}
	for d, h := range i.handlers(img) {
		opts[cache.DescHandlerKey(d)] = h
	}
	return godigest.FromString(key).String(), img.Manifest.Digest.String(), opts, true, nil
}

// handlers say where the blobs of an image are.
func (i *imageInstance) handlers(img *build.Image) cache.DescHandlers {
	out := cache.DescHandlers{}
	for _, l := range img.Layers {
		out[l.Blob.Digest] = &cache.DescHandler{
			Provider: func(session.Group) content.Provider { return i.s.store },
			Ref:      i.id.Reference.String(),
		}
	}
	return out
}

// Snapshot implements source.SourceInstance.
func (i *imageInstance) Snapshot(ctx context.Context, job solver.JobContext) (top cache.ImmutableRef, err error) {
	i.s.loans.using.RLock()
	defer i.s.loans.using.RUnlock()
	i.mu.Lock()
	i.img = nil // what was held then may have been given up meanwhile
	i.mu.Unlock()
	img, err := i.image(ctx, job)
	if err != nil {
		return nil, err
	}
	if err := i.s.loans.add(img.Layers); err != nil {
		return nil, err
	}
	handlers := i.handlers(img)
	for _, l := range img.Layers {
		d := l.Blob
		d.Annotations = map[string]string{"containerd.io/uncompressed": string(l.DiffID)}
		next, err := i.s.cache.GetByBlob(ctx, d, top, handlers, cache.WithImageRef(i.id.Reference.String()))
		if top != nil {
			err = errors.Join(err, top.Release(context.WithoutCancel(ctx)))
		}
		if err != nil {
			return nil, err
		}
		top = next
	}
	if t := i.id.RecordType; top != nil && t != "" && top.GetRecordType() == "" {
		if err := top.SetRecordType(client.UsageRecordType(t)); err != nil {
			return nil, errors.Join(err, top.Release(context.WithoutCancel(ctx)))
		}
	}
	return top, nil
}
