package server

import (
	"encoding/json"
	"runtime"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/errdefs"
)

// parsePlatform reads "os[/arch[/variant]]" or a lone architecture; "" is nil.
// Errors: Invalid.
func parsePlatform(s string) (*ocispec.Platform, error) {
	if s == "" {
		return nil, nil
	}
	parts := strings.Split(strings.ToLower(s), "/")
	if len(parts) > 3 || slices.Contains(parts, "") {
		return nil, errdefs.Invalidf("%q: platform specifier must have the form os[/arch[/variant]]: invalid argument", s)
	}
	p := &ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}
	switch {
	case len(parts) > 1:
		p.OS, p.Architecture = parts[0], parts[1]
	case parts[0] == "linux" || parts[0] == "windows":
		p.OS = parts[0]
	default:
		p.Architecture = parts[0]
	}
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	return canonical(p), nil
}

// canonical replaces the names that kernels and other tools use for
// architectures by those of images.
func canonical(p *ocispec.Platform) *ocispec.Platform {
	switch p.Architecture {
	case "x86_64", "x86-64":
		p.Architecture, p.Variant = "amd64", ""
	case "i386":
		p.Architecture, p.Variant = "386", ""
	case "aarch64", "arm64":
		p.Architecture = "arm64"
		if p.Variant == "8" || p.Variant == "v8" {
			p.Variant = ""
		}
	case "armhf":
		p.Architecture, p.Variant = "arm", "v7"
	case "armel":
		p.Architecture, p.Variant = "arm", "v6"
	case "arm":
		if v := p.Variant; v != "" && v[0] != 'v' {
			p.Variant = "v" + v
		}
	}
	return p
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
		all = append(all, *canonical(&p))
	}
	return all, nil
}
