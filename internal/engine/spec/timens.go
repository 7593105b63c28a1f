package spec

import (
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/errdefs"
)

// TimeOffsets reads what --time-offset asks for: "monotonic=+24h,boottime=-1h",
// with time.ParseDuration's units; empty: no time namespace. Errors: Invalid.
//
// Source: time_namespaces(7); OCI runtime-spec, config-linux.md, "Time Offsets".
func TimeOffsets(s string) (map[string]specs.LinuxTimeOffset, error) {
	if s == "" {
		return nil, nil
	}
	out := map[string]specs.LinuxTimeOffset{}
	for part := range strings.SplitSeq(s, ",") {
		clock, value, ok := strings.Cut(part, "=")
		if _, twice := out[clock]; !ok || twice || clock != "monotonic" && clock != "boottime" {
			return nil, errdefs.Invalidf("invalid time offset %q: want monotonic=DURATION or boottime=DURATION", part)
		}
		d, err := time.ParseDuration(value)
		if err != nil {
			return nil, errdefs.Invalidf("invalid time offset %q: %w", part, err)
		}
		// The kernel counts nanoseconds upwards from the second.
		secs, nanos := int64(d/time.Second), int64(d%time.Second)
		if nanos < 0 {
			secs, nanos = secs-1, nanos+int64(time.Second)
		}
		out[clock] = specs.LinuxTimeOffset{Secs: secs, Nanosecs: uint32(nanos)}
	}
	return out, nil
}

func timeNamespace(li *specs.Linux, hc *container.HostConfig) (err error) {
	li.TimeOffsets, err = TimeOffsets(hc.Annotations[TimeAnnotation])
	if len(li.TimeOffsets) > 0 {
		li.Namespaces = append(li.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
	}
	return err
}
