package compat

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/api/types/system"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/engine"
	"lade/internal/errdefs"
)

func TestVersion(t *testing.T) {
	for s, want := range map[string]Version{"": Newest, "1.24": Oldest, "1.56": Newest, "1.40": V1(40)} {
		if v, err := Check(s); err != nil || v != want {
			t.Errorf("Check(%q) = %v, %v", s, v, err)
		}
	}
	for s, want := range map[string]string{
		"1.23": "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version",
		"1.99": "client version 1.99 is too new. Maximum supported API version is 1.56",
		"2":    "client version 2 is too new. Maximum supported API version is 1.56",
		"1.x":  `invalid API version "1.x"`,
	} {
		if _, err := Check(s); err == nil || err.Error() != want || errdefs.KindOf(err) != errdefs.Invalid {
			t.Errorf("Check(%q): %v", s, err)
		}
	}
	if V1(9) >= V1(10) || V1(44).String() != "1.44" {
		t.Error("order or form")
	}
}

// has checks which texts the answer for a version has and has not.
func has(t *testing.T, op string, minor uint16, value any, want, not string) {
	t.Helper()
	before, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(New().Response(op, V1(minor), value))
	if err != nil {
		t.Fatal(err)
	}
	for w := range strings.FieldsSeq(want) {
		if !strings.Contains(string(b), w) {
			t.Errorf("%s of 1.%d lacks %s: %s", op, minor, w, b)
		}
	}
	for w := range strings.FieldsSeq(not) {
		if strings.Contains(string(b), w) {
			t.Errorf("%s of 1.%d has %s: %s", op, minor, w, b)
		}
	}
	if after, err := json.Marshal(value); err != nil || string(after) != string(before) {
		t.Errorf("%s of 1.%d changed the engine's value: %s", op, minor, after)
	}
}

func TestResponses(t *testing.T) {
	d := &ocispec.Descriptor{Digest: "sha256:00"}
	list := []container.Summary{{Health: &container.HealthSummary{}, ImageManifestDescriptor: d}}
	list[0].HostConfig.Annotations = map[string]string{"a": "b"}
	has(t, "ContainerList", 56, list, "Health ImageManifestDescriptor Annotations", "")
	has(t, "ContainerList", 51, list, "ImageManifestDescriptor Annotations", "Health")
	has(t, "ContainerList", 45, list, "", "Health ImageManifestDescriptor Annotations")

	c := &engine.InspectResponse{InspectResponse: &container.InspectResponse{ID: strings.Repeat("ab", 32), Driver: "overlay2", ImageManifestDescriptor: d, NetworkSettings: &container.NetworkSettings{
		Networks: map[string]*network.EndpointSettings{"bridge": {EndpointID: "e1"}, "n1": {Aliases: []string{"x"}}},
	}}}
	has(t, "ContainerInspect", 52, c, `"Aliases":["x"]`, `GraphDriver "NetworkSettings":{"SandboxID":"","SandboxKey":"","Ports":null,"Networks":{},"EndpointID"`)
	has(t, "ContainerInspect", 51, c, `GraphDriver "Ports":null "EndpointID":"e1" ImageManifestDescriptor "Aliases":["x"]`, "")
	has(t, "ContainerInspect", 44, c, `"Aliases":["x","abababababab"]`, "ImageManifestDescriptor")
	has(t, "ContainerInspect", 24, &engine.InspectResponse{InspectResponse: &container.InspectResponse{}}, "GraphDriver", "")

	images := []image.Summary{{Containers: 3, Descriptor: d, Size: 7}}
	has(t, "ImageList", 51, images, `"Containers":3`, "VirtualSize")
	has(t, "ImageList", 50, images, `"Containers":-1 Descriptor`, "VirtualSize")
	has(t, "ImageList", 43, images, `"VirtualSize":7 "RepoTags":null`, "Descriptor")
	has(t, "ImageList", 42, images, `"RepoTags":["\u003cnone\u003e:\u003cnone\u003e"]`, "")

	i := &image.InspectResponse{Size: 7, Descriptor: d, Identity: &image.Identity{}, Config: &dockerspec.DockerOCIImageConfig{}}
	has(t, "ImageInspect", 52, i, "", `Identity "Parent" "Entrypoint"`)
	has(t, "ImageInspect", 51, i, `"Parent":"" "Author":"" "Entrypoint":null "OnBuild":null`, `"Tty" Container VirtualSize`)
	has(t, "ImageInspect", 49, i, `"Tty":false "Hostname":""`, "VirtualSize")
	has(t, "ImageInspect", 44, i, `"ContainerConfig":null "Container":""`, "VirtualSize Descriptor")
	has(t, "ImageInspect", 43, i, `"VirtualSize":7 "Created":"0001-01-01T00:00:00Z"`, "")

	info := &system.Info{Containerd: &system.ContainerdInfo{}, FirewallBackend: &system.FirewallInfo{}, NRI: &system.NRIInfo{}, RuncCommit: system.Commit{ID: "r1"},
		SecurityOptions: []string{"name=seccomp,profile=builtin"}, Runtimes: map[string]system.RuntimeWithStatus{"runc": {Status: map[string]string{"feature": "x"}}}}
	has(t, "SystemInfo", 53, info, "NRI FirewallBackend", "")
	has(t, "SystemInfo", 50, info, "FirewallBackend", "NRI BridgeNf Expected")
	has(t, "SystemInfo", 49, info, `"BridgeNfIptables":false FirewallBackend`, "Expected")
	has(t, "SystemInfo", 48, info, `"Expected":"r1"`, "FirewallBackend")
	has(t, "SystemInfo", 43, info, "name=seccomp", "feature Containerd\":{")
	has(t, "SystemInfo", 24, info, `"SecurityOptions":["seccomp"]`, "")

	n := &network.Inspect{Status: &network.Status{}}
	has(t, "NetworkInspect", 51, n, "", "Status")
	has(t, "NetworkList", 27, []network.Summary{{}}, `"Containers":{}`, "")

	e := &events.Message{Type: events.ImageEventType, Action: "pull", Actor: events.Actor{ID: "i1"}}
	has(t, "Events", 51, e, `"status":"pull" "id":"i1"`, "from")
	has(t, "Events", 52, e, "", "status")
}

func TestQueries(t *testing.T) {
	for _, x := range []struct {
		op       string
		minor    uint16
		in, want string
	}{
		{"ImageList", 40, "filter=busy", `filter=busy&filters={"reference":["busy"]}`},
		{"ImageList", 40, `filter=busy&filters={"dangling":{"true":true}}`, `filter=busy&filters={"dangling":["true"],"reference":["busy"]}`},
		{"ImageList", 41, "filter=busy", "filter=busy"},
		{"ImageList", 40, "filter=busy&filters=bad", "filter=busy&filters=bad"},
		{"VolumePrune", 41, "", `filters={"all":["true"]}`},
		{"VolumePrune", 42, "", ""},
		{"ContainerStop", 41, "signal=INT&t=1", "t=1"},
		{"ContainerWait", 29, "condition=removed", ""},
		{"SystemDiskUsage", 41, "type=image&verbose=1", ""},
	} {
		q, err := url.ParseQuery(x.in)
		if err != nil {
			t.Fatal(err)
		}
		New().Query(x.op, V1(x.minor), q)
		got, err := url.QueryUnescape(q.Encode())
		if err != nil || got != x.want {
			t.Errorf("%s of 1.%d: %s, want %s", x.op, x.minor, got, x.want)
		}
	}
}

// TestOrder: rows of an operation stand newest first, and none is newer than
// what we speak.
func TestOrder(t *testing.T) {
	for op, rows := range New().rows {
		last := map[string]Version{}
		for _, r := range rows {
			kind := "response"
			if r.Query != nil {
				kind = "query"
			} else if r.Body != nil {
				kind = "body"
			}
			if before, ok := last[kind]; ok && r.Below > before && kind == "response" {
				t.Errorf("%s: a row for %v stands after one for %v", op, r.Below, before)
			}
			if r.Below > Newest || r.Below <= Oldest {
				t.Errorf("%s: a row for %v", op, r.Below)
			}
			last[kind] = r.Below
		}
	}
}
