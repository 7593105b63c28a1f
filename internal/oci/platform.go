package oci

import (
	"runtime"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/errdefs"
)

// Host returns the platform of the machine.
func Host() ocispec.Platform {
	return Normalize(ocispec.Platform{OS: runtime.GOOS, Architecture: runtime.GOARCH})
}

// ParsePlatform reads "os", "arch", "os/arch" or "os/arch/variant"; what is
// missing is the host's. Errors: Invalid.
func ParsePlatform(s string) (ocispec.Platform, error) {
	host := Host()
	parts := strings.Split(s, "/")
	for _, p := range parts {
		if p == "" || strings.Trim(strings.ToLower(p), "abcdefghijklmnopqrstuvwxyz0123456789._-") != "" {
			return ocispec.Platform{}, errdefs.Invalidf("%q is an invalid component of %q: platform specifier component must match %q: invalid argument",
				p, s, "^[A-Za-z0-9_.-]+$")
		}
	}
	p := ocispec.Platform{OS: host.OS, Architecture: host.Architecture, Variant: host.Variant}
	switch len(parts) {
	case 1:
		switch name := Normalize(ocispec.Platform{OS: parts[0]}).OS; {
		case isOS(name):
			p.OS = name
		case isArch(parts[0]):
			p.Architecture, p.Variant = parts[0], ""
		default:
			return ocispec.Platform{}, errdefs.Invalidf("%q: unknown operating system or architecture: invalid argument", s)
		}
	case 2:
		p.OS, p.Architecture, p.Variant = parts[0], parts[1], ""
	case 3:
		p.OS, p.Architecture, p.Variant = parts[0], parts[1], parts[2]
	default:
		return ocispec.Platform{}, errdefs.Invalidf("%q: cannot parse platform specifier: invalid argument", s)
	}
	return Normalize(p), nil
}

func isOS(s string) bool {
	return slices.Contains([]string{"aix", "android", "darwin", "dragonfly", "freebsd", "illumos", "ios", "js",
		"linux", "netbsd", "openbsd", "plan9", "solaris", "wasip1", "windows"}, s)
}

func isArch(s string) bool {
	a := Normalize(ocispec.Platform{Architecture: s}).Architecture
	return slices.Contains([]string{"386", "amd64", "arm", "arm64", "loong64", "mips", "mipsle", "mips64", "mips64le",
		"ppc64", "ppc64le", "riscv64", "s390x", "wasm"}, a)
}

// FormatPlatform is the inverse of ParsePlatform.
func FormatPlatform(p ocispec.Platform) string {
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// Normalize writes a platform in Go's words: amd64 for x86_64, arm/v7 for
// armhf, and no variant where it is the only one.
func Normalize(p ocispec.Platform) ocispec.Platform {
	p.OS, p.Architecture, p.Variant = strings.ToLower(p.OS), strings.ToLower(p.Architecture), strings.ToLower(p.Variant)
	if p.OS == "macos" {
		p.OS = "darwin"
	}
	switch p.Architecture {
	case "i386":
		p.Architecture, p.Variant = "386", ""
	case "x86_64", "x86-64":
		p.Architecture = "amd64"
	case "aarch64":
		p.Architecture = "arm64"
	case "armhf":
		p.Architecture, p.Variant = "arm", "v7"
	case "armel":
		p.Architecture, p.Variant = "arm", "v6"
	}
	switch {
	case p.Architecture == "amd64" && p.Variant == "v1":
		p.Variant = ""
	case p.Architecture == "arm64" && (p.Variant == "8" || p.Variant == "v8"):
		p.Variant = ""
	case p.Architecture == "arm" && p.Variant == "":
		p.Variant = "v7"
	case p.Architecture == "arm" && len(p.Variant) == 1:
		p.Variant = "v" + p.Variant
	}
	return p
}

// runnable lists what a machine of platform p executes, best first.
func runnable(p ocispec.Platform) []ocispec.Platform {
	p = Normalize(p)
	out := []ocispec.Platform{p}
	add := func(arch string, variants ...string) {
		for _, v := range variants {
			out = append(out, ocispec.Platform{OS: p.OS, Architecture: arch, Variant: v})
		}
	}
	older := func(all ...string) []string { return all[slices.Index(all, p.Variant)+1:] }
	switch p.Architecture {
	case "amd64":
		if p.Variant != "" {
			add("amd64", append(older("v4", "v3", "v2"), "")...)
		}
		add("386", "")
	case "arm64":
		if p.Variant != "" {
			add("arm64", "")
		}
		add("arm", "v8", "v7", "v6", "v5")
	case "arm":
		add("arm", older("v8", "v7", "v6", "v5")...)
	}
	return out
}

// Rank tells how well an image for platform have runs where want is wanted: 0
// is best, -1 is not at all.
func Rank(want, have ocispec.Platform) int {
	have = Normalize(have)
	return slices.IndexFunc(runnable(want), func(p ocispec.Platform) bool {
		return p.OS == have.OS && p.Architecture == have.Architecture && p.Variant == have.Variant
	})
}

// Select returns the entry of an index that fits the wanted platform best; of
// equals the first. Errors: NotFound, in Docker's words.
func Select(ix *ocispec.Index, want ocispec.Platform) (ocispec.Descriptor, error) {
	best, rank := -1, -1
	for i, d := range ix.Manifests {
		if d.Platform == nil || !IsManifest(d.MediaType) && d.MediaType != "" {
			continue
		}
		if r := Rank(want, *d.Platform); r >= 0 && (rank < 0 || r < rank) {
			best, rank = i, r
		}
	}
	if best >= 0 {
		return ix.Manifests[best], nil
	}
	// An index of one manifest that names no platform has nothing to choose.
	if len(ix.Manifests) == 1 && ix.Manifests[0].Platform == nil && !IsIndex(ix.Manifests[0].MediaType) {
		return ix.Manifests[0], nil
	}
	return ocispec.Descriptor{}, errdefs.NotFoundf("no matching manifest for %s in the manifest list entries", FormatPlatform(want))
}
