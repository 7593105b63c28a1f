package seccomp

import (
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/errdefs"
)

// Compile translates an OCI profile to the filter that seccomp(2) takes: an
// array of struct sock_filter in the machine's byte order. Errors: Invalid.
func Compile(s *specs.LinuxSeccomp) ([]byte, error) {
	return nil, errdefs.NotImplementedf("seccomp compile")
}

// DefaultProfile returns Docker's default profile for the machine's
// architecture and kernel, for a process with the given bounding set
// ("CAP_CHOWN", …).
func DefaultProfile(capabilities []string) (*specs.LinuxSeccomp, error) {
	return nil, errdefs.NotImplementedf("seccomp default profile")
}

// LoadProfile reads a profile in Docker's JSON form (--security-opt
// seccomp=FILE), filtered as DefaultProfile is. It returns nil for a profile
// that filters nothing. Errors: Invalid.
func LoadProfile(json []byte, capabilities []string) (*specs.LinuxSeccomp, error) {
	return nil, errdefs.NotImplementedf("seccomp load profile")
}
