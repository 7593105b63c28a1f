package engine

import (
	apiimage "github.com/moby/moby/api/types/image"
	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/digest"
	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/oci"
)

// variants are the images that stand under the same names as an image, itself
// first: those for other platforms.
func (e *viewer) variants(img *image.Image) ([]*image.Image, error) {
	all := []*image.Image{img}
	seen := map[digest.Digest]bool{img.ID: true}
	for _, n := range img.Names {
		more, err := e.Images.Variants(n)
		if errdefs.KindOf(err) == errdefs.NotFound {
			continue // the name went meanwhile
		}
		if err != nil {
			return nil, err
		}
		for _, v := range more {
			if !seen[v.ID] {
				seen[v.ID] = true
				all = append(all, v)
			}
		}
	}
	return all, nil
}

// secondary reports whether each name of an image means another one here: it is
// there for another platform.
func (e *viewer) secondary(img *image.Image) bool {
	for _, n := range img.Names {
		if first, err := e.Images.Lookup(n); err != nil || first.ID == img.ID {
			return false
		}
	}
	return len(img.Names) > 0
}

// manifests lists what an image's index has, or its manifest alone; those that
// are here with their sizes and users. Errors: DataLoss for a damaged store.
func (e *viewer) manifests(img *image.Image) ([]apiimage.ManifestSummary, error) {
	here, err := e.variants(img)
	if err != nil {
		return nil, err
	}
	listed := []ocispec.Descriptor{}
	if oci.IsIndex(img.Target.MediaType) {
		raw, err := e.Images.ReadBlob(digest.Digest(img.Target.Digest), oci.MaxManifest)
		if err != nil {
			return nil, err
		}
		ix, err := oci.ParseIndex(raw)
		if err != nil {
			return nil, err
		}
		listed = ix.Manifests
	}
	out := []apiimage.ManifestSummary{}
	known := map[godigest.Digest]bool{}
	for _, d := range listed {
		known[d.Digest] = true
		out = append(out, e.manifest(d, here))
	}
	for _, v := range here {
		if !known[v.Manifest.Digest] {
			out = append(out, e.manifest(v.Manifest, here))
		}
	}
	return out, nil
}

// manifest is one of them.
func (e *viewer) manifest(d ocispec.Descriptor, here []*image.Image) apiimage.ManifestSummary {
	m := apiimage.ManifestSummary{ID: d.Digest.String(), Descriptor: d, Kind: apiimage.ManifestKindUnknown}
	if of := oci.Attests(d); of != "" {
		m.Kind = apiimage.ManifestKindAttestation
		m.AttestationData = &apiimage.AttestationProperties{For: godigest.Digest(of)}
		for _, img := range here {
			for _, a := range img.Attested {
				if a.Manifest.Digest == d.Digest {
					m.Available = true
					m.Size.Content, m.Size.Total = a.Size(), a.Size()
				}
			}
		}
		return m
	}
	if d.Platform != nil {
		m.Kind = apiimage.ManifestKindImage
		m.ImageData = &apiimage.ImageProperties{Platform: *d.Platform, Containers: []string{}}
	}
	for _, img := range here {
		if img.Manifest.Digest != d.Digest {
			continue
		}
		m.Kind, m.Available = apiimage.ManifestKindImage, true
		m.ImageData = &apiimage.ImageProperties{Platform: img.Platform(), Containers: []string{}}
		m.ImageData.Size.Unpacked = img.Size
		m.Size.Content = img.Manifest.Size + e.blobSize(img.ID)
		for _, l := range img.Layers {
			m.Size.Content += l.Blob.Size
		}
		m.Size.Total = m.Size.Content + img.Size
		for _, u := range e.users(img.ID) {
			m.ImageData.Containers = append(m.ImageData.Containers, u.Container)
		}
	}
	return m
}

// blobSize is the length of a blob in bytes, 0 for one that went meanwhile.
func (e *viewer) blobSize(d digest.Digest) int64 {
	n, err := e.Images.Content().Stat(d)
	if err != nil {
		return 0
	}
	return n
}
