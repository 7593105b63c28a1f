package engine

import (
	"context"
	"encoding/json"
	"slices"

	apiimage "github.com/moby/moby/api/types/image"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/digest"
	"lade/internal/errdefs"
	"lade/internal/oci"
)

// AttestationOptions says which statements ImageAttestations returns.
type AttestationOptions struct {
	Platform *ocispec.Platform // nil: this machine's
	Types    []string          // predicate types; none: all
	Content  bool              // with the statements themselves
}

// ImageAttestations returns the in-toto statements about an image that came with
// its index, as they came: whether they are true is for who made them and who
// reads them to say. Errors: NotFound, also for a platform that is not here;
// DataLoss for a statement that is no JSON.
func (e *Engine) ImageAttestations(_ context.Context, name string, o AttestationOptions) ([]apiimage.AttestationStatement, error) {
	img, err := e.Images.ResolveFor(name, o.Platform)
	if err != nil {
		return nil, err
	}
	out := []apiimage.AttestationStatement{}
	for _, a := range img.Attested {
		for _, d := range a.Statements {
			about := oci.PredicateType(d)
			if len(o.Types) > 0 && !slices.Contains(o.Types, about) {
				continue
			}
			s := apiimage.AttestationStatement{Descriptor: d, PredicateType: about}
			if o.Content {
				raw, err := e.Images.ReadBlob(digest.Digest(d.Digest), oci.MaxStatement)
				if err != nil {
					return nil, err
				}
				if !json.Valid(raw) {
					return nil, errdefs.DataLossf("the statement %s is no JSON", d.Digest)
				}
				s.Statement = (*json.RawMessage)(&raw)
			}
			out = append(out, s)
		}
	}
	return out, nil
}
