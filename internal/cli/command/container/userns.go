package container

import (
	"errors"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"lade/internal/cli/opt"
)

// timeAnnotation tells the engine what --time-offset says: any client can say
// the same with --annotation.
const timeAnnotation = "lade.time-offset"

// idmapPrefix begins the annotations that tell the engine of idmap in --mount.
const idmapPrefix = "lade.idmap."

// validUser reports whether a mode of --userns is one that engines know: Docker's
// or lade's. What follows the colon is the engine's to check.
func validUser(mode string) bool {
	kind, _, _ := strings.Cut(mode, ":")
	switch kind {
	case "auto", "keep-id", "remap":
		return true
	}
	return mode == "" || mode == "host"
}

// keepCaller says whose ids a bare "keep-id" keeps: those of who calls, who is
// then the container's user as well, unless --user says otherwise. Root, whose
// ids inside cannot be the host's, has to tell; so has who asks for a user by
// number, which the engine reads.
func keepCaller(mode, user string, uid, gid int) (string, string) {
	first, _, _ := strings.Cut(user, ":")
	_, err := strconv.ParseUint(first, 10, 32)
	if mode != "keep-id" || err == nil || uid <= 0 || gid <= 0 {
		return mode, user
	}
	ids := strconv.Itoa(uid) + ":" + strconv.Itoa(gid)
	if user == "" {
		user = ids
	}
	return mode + ":" + ids, user
}

// timeOffsetFlag declares --time-offset, which is kept as an annotation.
func timeOffsetFlag(f *pflag.FlagSet, annotations *opt.Map) {
	f.Var(timeOffset{annotations}, "time-offset", "Shift the container's clocks, as monotonic=+24h,boottime=+24h")
	opt.Own(f, "time-offset")
}

// timeOffset is the flag.
type timeOffset struct{ annotations *opt.Map }

// Set keeps the value.
func (t timeOffset) Set(v string) error {
	if v == "" {
		return errors.New("the format is CLOCK=DURATION, as monotonic=+24h")
	}
	return t.annotations.Set(timeAnnotation + "=" + v)
}

// String is what help shows as the default.
func (t timeOffset) String() string {
	if t.annotations == nil {
		return ""
	}
	return t.annotations.Values()[timeAnnotation]
}

// Type is "string".
func (timeOffset) Type() string { return "string" }
