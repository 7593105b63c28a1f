package spec

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/moby/moby/api/types/container"

	"lade/internal/cdi"
	"lade/internal/errdefs"
)

// nvidia is the kind of NVIDIA's devices, which --gpus means where its files of
// the Container Device Interface are there.
const nvidia = "nvidia.com/gpu"

// Requests returns what the devices bring that are asked for by name, or by
// --gpus; nil without any. Errors: Invalid, in Docker's words.
//
// Source: the Docker Engine API, DeviceRequest.
func Requests(all []container.DeviceRequest, devices func() *cdi.Registry) (*cdi.Edits, error) {
	if len(all) == 0 {
		return nil, nil
	}
	there := devices()
	var names []string
	for _, r := range all {
		switch {
		case r.Driver == "cdi" && there != nil:
			if r.Count != 0 {
				return nil, errdefs.Invalidf("unexpected count in CDI device request")
			}
			if len(r.Options) > 0 {
				return nil, errdefs.Invalidf("unexpected options in CDI device request")
			}
			names = append(names, r.DeviceIDs...)
		case isGPU(r) && there != nil && there.Has(nvidia):
			names = append(names, gpus(r)...)
		default:
			return nil, errdefs.Invalidf("could not select device driver %q with capabilities: %v", r.Driver, r.Capabilities)
		}
	}
	return there.Find(names)
}

func isGPU(r container.DeviceRequest) bool {
	return (r.Driver == "" || r.Driver == "nvidia") && slices.ContainsFunc(r.Capabilities, func(and []string) bool { return slices.Contains(and, "gpu") })
}

// gpus names the cards that a request means.
func gpus(r container.DeviceRequest) (names []string) {
	switch {
	case len(r.DeviceIDs) > 0:
		for _, id := range r.DeviceIDs {
			names = append(names, nvidia+"="+id)
		}
	case r.Count < 0:
		names = append(names, nvidia+"=all")
	default:
		for i := range r.Count {
			names = append(names, fmt.Sprint(nvidia, "=", strconv.Itoa(i)))
		}
	}
	return names
}
