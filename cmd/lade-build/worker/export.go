package worker

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/moby/buildkit/cache"
	cacheconfig "github.com/moby/buildkit/cache/config"
	"github.com/moby/buildkit/exporter"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/util/compression"
	"github.com/moby/buildkit/util/progress"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/build"
	"lade/internal/digest"
	"lade/internal/errdefs"
	"lade/internal/reference"
)

// The exporters that end in the engine's images: docker's own, which clients ask
// for when they speak with an engine, and BuildKit's.
const (
	exporterMoby  = "moby"
	exporterImage = "image"
)

// toEngine is BuildKit's exporter of images whose result goes to laded.
type toEngine struct {
	exporter.Exporter
	host  *build.Host
	store content.Store
	loans *borrowed
}

// Resolve implements exporter.Exporter. Errors: Invalid for a bad name, or when
// the image is to be pushed, too: clients push what the engine has.
func (e *toEngine) Resolve(ctx context.Context, id int, attrs map[string]string) (exporter.ExporterInstance, error) {
	attrs = maps.Clone(attrs)
	if attrs == nil {
		attrs = map[string]string{}
	}
	if v, ok := attrs[string(exptypes.OptKeyPush)]; ok && v != "false" {
		return nil, errdefs.Invalidf("exporter option push is not supported: push the image after it was built")
	}
	var names []string
	for n := range strings.SplitSeq(attrs[string(exptypes.OptKeyName)], ",") {
		if n == "" {
			continue
		}
		ref, err := reference.ParseTagged(n)
		if err != nil {
			return nil, errdefs.Invalidf("invalid reference format: %q: %w", n, err)
		}
		if ref.Digest != "" {
			return nil, errdefs.Invalidf("build tag cannot contain a digest: %q", n)
		}
		if !slices.Contains(names, ref.String()) {
			names = append(names, ref.String())
		}
	}
	attrs[string(exptypes.OptKeyName)] = strings.Join(names, ",")
	inner, err := e.Exporter.Resolve(ctx, id, attrs)
	if err != nil {
		return nil, err
	}
	return &toEngineInstance{inner, e, names}, nil
}

type toEngineInstance struct {
	exporter.ExporterInstance
	e     *toEngine
	names []string
}

// Export implements exporter.ExporterInstance.
func (i *toEngineInstance) Export(ctx context.Context, src *exporter.Source, info exporter.ExportBuildInfo) (map[string]string, exporter.FinalizeFunc, exporter.DescriptorReference, error) {
	resp, _, ref, err := i.ExporterInstance.Export(ctx, src, info)
	if err != nil {
		return nil, nil, nil, err
	}
	done := progress.OneOff(ctx, "adding the image to the engine")
	loaded, err := i.send(ctx, src, info, ref.Descriptor())
	if err := done(err); err != nil {
		return nil, nil, nil, errors.Join(err, ref.Release())
	}
	for _, n := range i.names {
		_ = progress.OneOff(ctx, "naming to "+n)(nil)
	}
	// What clients print and write with --iidfile: the id of an image here is
	// that of its configuration.
	if len(loaded.IDs) > 0 {
		resp[exptypes.ExporterImageDigestKey] = loaded.IDs[0].String()
		resp[exptypes.ExporterImageConfigDigestKey] = loaded.IDs[0].String()
	}
	if len(i.names) > 0 {
		resp[exptypes.ExporterImageNameKey] = strings.Join(i.names, ",")
	}
	return resp, nil, ref, nil
}

// send gives laded what was built.
func (i *toEngineInstance) send(ctx context.Context, src *exporter.Source, info exporter.ExportBuildInfo, target ocispec.Descriptor) (*build.Loaded, error) {
	all, err := i.collect(ctx, src, info, target)
	if err != nil {
		return nil, err
	}
	var held []digest.Digest
	var sent []ocispec.Descriptor
	for _, d := range all {
		if _, ours := i.e.loans.of(d.Digest); ours {
			held = append(held, digest.Digest(d.Digest))
		} else {
			sent = append(sent, d)
		}
	}
	r, w := io.Pipe()
	go func() { w.CloseWithError(i.archive(ctx, w, target, sent)) }()
	loaded, err := i.e.host.Load(ctx, r, held)
	_ = r.Close() // ends archive, if laded has not read it all
	return loaded, err
}

// collect returns all blobs of an image, each once, and sees to it that they are
// here: those of an imported cache may be in a registry.
func (i *toEngineInstance) collect(ctx context.Context, src *exporter.Source, info exporter.ExportBuildInfo, target ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	refs := slices.Collect(maps.Values(src.Refs))
	if src.Ref != nil {
		refs = append(refs, src.Ref)
	}
	for _, r := range refs {
		if r == nil {
			continue
		}
		remotes, err := r.GetRemotes(ctx, false, cacheconfig.RefConfig{Compression: compression.New(compression.Default)}, false, session.NewGroup(info.SessionID))
		if err != nil {
			return nil, err
		}
		if u, ok := remotes[0].Provider.(cache.Unlazier); ok {
			if err := u.Unlazy(ctx); err != nil {
				return nil, err
			}
		}
	}
	var all []ocispec.Descriptor
	seen := map[string]bool{}
	var walk func(d ocispec.Descriptor) error
	walk = func(d ocispec.Descriptor) error {
		if seen[d.Digest.String()] {
			return nil
		}
		seen[d.Digest.String()] = true
		all = append(all, d)
		children, err := images.Children(ctx, i.e.store, d)
		if err != nil {
			return err
		}
		for _, c := range children {
			if err := walk(c); err != nil {
				return err
			}
		}
		return nil
	}
	return all, walk(target)
}

// archive writes an OCI layout with the given blobs.
//
// Source: OCI image-spec, image-layout.md.
func (i *toEngineInstance) archive(ctx context.Context, w io.Writer, target ocispec.Descriptor, blobs []ocispec.Descriptor) error {
	t := tar.NewWriter(w)
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for _, name := range append([]string{""}, i.names...) {
		if name == "" && len(i.names) > 0 {
			continue
		}
		d := ocispec.Descriptor{MediaType: target.MediaType, Digest: target.Digest, Size: target.Size}
		if name != "" {
			d.Annotations = map[string]string{images.AnnotationImageName: name}
		}
		index.Manifests = append(index.Manifests, d)
	}
	for name, v := range map[string]any{ocispec.ImageLayoutFile: ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion}, ocispec.ImageIndexFile: index} {
		b, err := json.Marshal(v)
		if err != nil {
			return err
		}
		if err := t.WriteHeader(&tar.Header{Name: name, Mode: 0o444, Size: int64(len(b))}); err != nil {
			return err
		}
		if _, err := t.Write(b); err != nil {
			return err
		}
	}
	for _, d := range blobs {
		if err := i.blob(ctx, t, d); err != nil {
			return fmt.Errorf("blob %s: %w", d.Digest, err)
		}
	}
	return t.Close()
}

func (i *toEngineInstance) blob(ctx context.Context, t *tar.Writer, d ocispec.Descriptor) error {
	r, err := i.e.store.ReaderAt(ctx, d)
	if err != nil {
		return err
	}
	defer r.Close()
	h := &tar.Header{Name: "blobs/" + d.Digest.Algorithm().String() + "/" + d.Digest.Encoded(), Mode: 0o444, Size: r.Size()}
	if err := t.WriteHeader(h); err != nil {
		return err
	}
	_, err = io.Copy(t, content.NewReader(r))
	return err
}
