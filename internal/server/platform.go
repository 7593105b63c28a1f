package server

import (
	"encoding/json"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/errdefs"
	"lade/internal/oci"
)

// parsePlatform reads a parameter as oci.ParsePlatform does; "" is nil.
// Errors: Invalid.
func parsePlatform(s string) (*ocispec.Platform, error) {
	if s == "" {
		return nil, nil
	}
	p, err := oci.ParsePlatform(s)
	if err != nil {
		return nil, err
	}
	return &p, nil
}

// oneJSONPlatform reads at most one platform from parameters that hold JSON
// objects. Errors: Invalid.
func oneJSONPlatform(values []string) (*ocispec.Platform, error) {
	switch {
	case len(values) == 0 || len(values) == 1 && values[0] == "":
		return nil, nil
	case len(values) > 1:
		return nil, errdefs.Invalidf("multiple platforms are not supported")
	}
	all, err := jsonPlatforms(values)
	if err != nil {
		return nil, err
	}
	return &all[0], nil
}

// jsonPlatforms reads parameters that hold JSON objects. Errors: Invalid.
func jsonPlatforms(values []string) ([]ocispec.Platform, error) {
	var all []ocispec.Platform
	for _, v := range values {
		if v == "" {
			continue
		}
		var p ocispec.Platform
		if err := json.Unmarshal([]byte(v), &p); err != nil {
			return nil, errdefs.Invalidf("failed to parse platform: %w", err)
		}
		if p.OS == "" || p.Architecture == "" {
			return nil, errdefs.Invalidf("both OS and Architecture must be provided")
		}
		all = append(all, oci.Normalize(p))
	}
	return all, nil
}
