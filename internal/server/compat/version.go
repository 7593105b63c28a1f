package compat

import (
	"strconv"
	"strings"

	"lade/internal/errdefs"
)

// Version is a version of the API; versions compare as integers.
type Version uint32

// The versions that the server speaks. Oldest is older than what Docker 29
// accepts, so that old clients and libraries still work.
const (
	Oldest = Version(1<<16 | 24)
	Newest = Version(1<<16 | 56)
)

// V1 returns version 1.minor.
func V1(minor uint16) Version { return Version(1<<16 | uint32(minor)) }

// Parse reads "1.50". A malformed version is Invalid.
func Parse(s string) (Version, error) {
	major, minor, _ := strings.Cut(s, ".")
	a, err := strconv.ParseUint(major, 10, 16)
	if err != nil {
		return 0, errdefs.Invalidf("invalid API version %q", s)
	}
	if minor == "" {
		minor = "0"
	}
	b, err := strconv.ParseUint(minor, 10, 16)
	if err != nil {
		return 0, errdefs.Invalidf("invalid API version %q", s)
	}
	return Version(a<<16 | b), nil
}

// String returns the version as clients write it.
func (v Version) String() string {
	return strconv.Itoa(int(v>>16)) + "." + strconv.Itoa(int(v&0xffff))
}

// Check reads the version that a request's path names ("" is the newest) and
// answers Invalid, in Docker's words, when it is not spoken.
func Check(s string) (Version, error) { return CheckFrom(s, Oldest) }

// CheckFrom is Check where the oldest version that is spoken is another one.
func CheckFrom(s string, oldest Version) (Version, error) {
	if s == "" {
		return Newest, nil
	}
	v, err := Parse(s)
	if err != nil {
		return 0, err
	}
	if v < oldest {
		return 0, errdefs.Invalidf("client version %s is too old. Minimum supported API version is %s, please upgrade your client to a newer version", s, oldest)
	}
	if v > Newest {
		return 0, errdefs.Invalidf("client version %s is too new. Maximum supported API version is %s", s, Newest)
	}
	return v, nil
}
