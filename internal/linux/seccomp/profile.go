package seccomp

import (
	"github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/errdefs"
)

// DefaultProfile returns Docker's default profile for the machine's
// architecture and kernel, for a process with the given bounding set
// ("CAP_CHOWN", …).
func DefaultProfile(capabilities []string) (*specs.LinuxSeccomp, error) {
	return seccomp.GetDefaultProfile(process(capabilities))
}

// LoadProfile reads a profile in Docker's JSON form (--security-opt
// seccomp=FILE), filtered as DefaultProfile is. It returns nil for a profile
// that filters nothing. Errors: Invalid.
func LoadProfile(json []byte, capabilities []string) (*specs.LinuxSeccomp, error) {
	s, err := seccomp.LoadProfile(string(json), process(capabilities))
	if err != nil {
		return nil, errdefs.Invalidf("%w", err)
	}
	return s, nil
}

func process(capabilities []string) *specs.Spec {
	return &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: capabilities}}}
}
