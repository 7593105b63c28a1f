package spec

import (
	"testing"

	"github.com/moby/moby/api/types/container"

	"lade/internal/cdi"
	"lade/internal/errdefs"
)

// TestRequests refuses in Docker's words what no driver is there for.
func TestRequests(t *testing.T) {
	none := func() *cdi.Registry { return cdi.Read(nil) }
	off := func() *cdi.Registry { return nil }
	for _, x := range []struct {
		r       container.DeviceRequest
		devices func() *cdi.Registry
		want    string
	}{
		{container.DeviceRequest{Capabilities: [][]string{{"gpu"}}}, none, `could not select device driver "" with capabilities: [[gpu]]`},
		{container.DeviceRequest{Driver: "cdi", DeviceIDs: []string{"a/b=c"}}, off, `could not select device driver "cdi" with capabilities: []`},
		{container.DeviceRequest{Driver: "cdi", DeviceIDs: []string{"a/b=c"}}, none, "CDI device injection failed: unresolvable CDI devices a/b=c"},
		{container.DeviceRequest{Driver: "cdi", Count: 1}, none, "unexpected count in CDI device request"},
		{container.DeviceRequest{Driver: "cdi", Options: map[string]string{"a": "b"}}, none, "unexpected options in CDI device request"},
		{container.DeviceRequest{Driver: "tpu"}, none, `could not select device driver "tpu" with capabilities: []`},
	} {
		if _, err := Requests([]container.DeviceRequest{x.r}, x.devices); errdefs.KindOf(err) != errdefs.Invalid || err.Error() != x.want {
			t.Errorf("%+v: %v", x.r, err)
		}
	}
	if e, err := Requests(nil, off); e != nil || err != nil {
		t.Errorf("of nothing: %v %v", e, err)
	}
}
