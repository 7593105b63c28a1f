package opt

import (
	"fmt"
	"regexp"
	"runtime"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Platform parses os[/arch[/variant]] or arch, in any of the usual spellings.
//
// Source: OCI image-spec, image-index.md, "platform"; Go's GOOS and GOARCH.
func Platform(v string) (*ocispec.Platform, error) {
	word := regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)
	parts := strings.Split(v, "/")
	if len(parts) > 3 {
		return nil, fmt.Errorf("%q: cannot parse platform specifier: invalid argument", v)
	}
	for _, p := range parts {
		if !word.MatchString(p) {
			return nil, fmt.Errorf("%q is an invalid component of %q: platform specifier component must match %q: invalid argument", p, v, word)
		}
	}
	p := &ocispec.Platform{OS: strings.ToLower(parts[0])}
	if p.OS == "macos" {
		p.OS = "darwin"
	}
	if len(parts) == 1 {
		if knownOS(p.OS) {
			p.Architecture = runtime.GOARCH
			return p, nil
		}
		p.Architecture, p.Variant = arch(parts[0], "")
		if !knownArch(p.Architecture) {
			return nil, fmt.Errorf("%q: unknown operating system or architecture: invalid argument", v)
		}
		p.OS = runtime.GOOS
		return implied(p), nil
	}
	if len(parts) == 2 {
		p.Architecture, p.Variant = arch(parts[1], "")
		return implied(p), nil
	}
	p.Architecture, p.Variant = arch(parts[1], parts[2])
	if p.Architecture == "arm64" && p.Variant == "" {
		p.Variant = "v8" // it was said
	}
	return p, nil
}

// implied leaves out a variant that nobody said and that is the usual one.
func implied(p *ocispec.Platform) *ocispec.Platform {
	if p.Architecture == "arm" && p.Variant == "v7" {
		p.Variant = ""
	}
	return p
}

func knownOS(s string) bool {
	return strings.Contains(" aix android darwin dragonfly freebsd hurd illumos ios js linux nacl netbsd openbsd plan9 solaris windows zos ", " "+s+" ")
}

func knownArch(s string) bool {
	return strings.Contains(" 386 amd64 amd64p32 arm armbe arm64 arm64be loong64 mips mipsle mips64 mips64le mips64p32 mips64p32le ppc ppc64 ppc64le riscv riscv64 s390 s390x sparc sparc64 wasm ", " "+s+" ")
}

// arch brings names of processors to Go's and drops variants that say nothing.
func arch(a, variant string) (string, string) {
	a, variant = strings.ToLower(a), strings.ToLower(variant)
	switch a {
	case "i386":
		return "386", ""
	case "x86_64", "x86-64", "amd64":
		if variant == "v1" {
			variant = ""
		}
		return "amd64", variant
	case "aarch64", "arm64":
		if variant == "8" || variant == "v8" {
			variant = ""
		}
		return "arm64", variant
	case "armhf":
		return "arm", "v7"
	case "armel":
		return "arm", "v6"
	case "arm":
		switch variant {
		case "", "7":
			variant = "v7"
		case "5", "6", "8":
			variant = "v" + variant
		}
	}
	return a, variant
}
