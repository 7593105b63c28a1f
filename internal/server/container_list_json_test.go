package server

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// fill sets every field below v at random, to nothing as well as to something.
func fill(t *testing.T, r *rand.Rand, v reflect.Value) {
	t.Helper()
	texts := []string{"", "a", "two words", `"\`, "<&>", "\x00\x1f\x7f\n", "ü\u2028", "\xff"}
	switch p := v.Addr().Interface().(type) {
	case *netip.Addr:
		*p = []netip.Addr{{}, netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fe80::1%eth0")}[r.IntN(4)]
		return
	case *network.HardwareAddr:
		*p = []network.HardwareAddr{nil, {2, 0, 0, 0, 0, 1}}[r.IntN(2)]
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(texts[r.IntN(len(texts))])
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(r.IntN(3)-1) * 1e9)
	case reflect.Uint8, reflect.Uint16:
		v.SetUint(uint64(r.IntN(2) * 99))
	case reflect.Pointer:
		if r.IntN(3) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(t, r, v.Elem())
		}
	case reflect.Slice:
		if n := r.IntN(4) - 1; n >= 0 {
			v.Set(reflect.MakeSlice(v.Type(), n, n))
			for i := range n {
				fill(t, r, v.Index(i))
			}
		}
	case reflect.Map:
		if n := r.IntN(4) - 1; n >= 0 {
			v.Set(reflect.MakeMap(v.Type()))
			for range n {
				key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
				fill(t, r, key)
				fill(t, r, value)
				v.SetMapIndex(key, value)
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, r, v.Field(i))
		}
	default:
		t.Fatalf("no values of %s", v.Type())
	}
}

// TestListJSON: the list that is written by hand is, byte for byte, what
// encoding/json makes of it, whatever the fields have: a field that a new
// version of the types brings fails here.
func TestListJSON(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 4000 {
		var one container.Summary
		fill(t, r, reflect.ValueOf(&one).Elem())
		var want bytes.Buffer
		if err := encodeTo(&want, one); err != nil {
			t.Fatal(err)
		}
		if got := string(appendSummary(nil, &one)); got+"\n" != want.String() {
			i := 0
			for i < len(got) && got[i] == want.String()[i] {
				i++
			}
			t.Fatalf("at %d: …%.80q, want …%.80q", i, got[max(0, i-30):], want.String()[max(0, i-30):])
		}
	}
}

// thousand is a list as an engine with 1,000 containers has it.
func thousand() []container.Summary {
	s := container.Summary{
		ID: strings.Repeat("0123456789abcdef", 4), Names: []string{"/some_container"}, Image: "registry.example/team/service:1.2", ImageID: "sha256:" + strings.Repeat("ab", 32),
		ImageManifestDescriptor: &ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("x"), Size: 1000, Platform: &ocispec.Platform{Architecture: "amd64", OS: "linux"}},
		Command:                 "/bin/server --listen :8080", Created: 1_700_000_000, Ports: []container.PortSummary{{IP: netip.MustParseAddr("0.0.0.0"), PrivatePort: 8080, PublicPort: 80, Type: "tcp"}},
		Labels: map[string]string{"com.docker.compose.project": "x", "com.docker.compose.service": "y"}, State: "running", Status: "Up 3 hours",
		NetworkSettings: &container.NetworkSettingsSummary{Networks: map[string]*network.EndpointSettings{"bridge": {
			NetworkID: strings.Repeat("cd", 32), EndpointID: strings.Repeat("ef", 32), Gateway: netip.MustParseAddr("172.17.0.1"), IPAddress: netip.MustParseAddr("172.17.0.2"), IPPrefixLen: 16, MacAddress: network.HardwareAddr{2, 0, 0, 0, 0, 1},
		}}},
		Mounts: []container.MountPoint{{Type: "volume", Name: "data", Source: "/var/lib/lade/volumes/data/_data", Destination: "/data", Driver: "local", Mode: "z", RW: true}},
	}
	s.HostConfig.NetworkMode = "bridge"
	list := make([]container.Summary, 1000)
	for i := range list {
		list[i] = s
	}
	return list
}

func BenchmarkListJSON(b *testing.B) {
	list := thousand()
	var buf []byte
	for b.Loop() {
		buf = buf[:0]
		for i := range list {
			buf = appendSummary(buf, &list[i])
		}
	}
	b.SetBytes(int64(len(buf)))
}

func BenchmarkListJSONByReflection(b *testing.B) {
	list := thousand()
	var buf bytes.Buffer
	for b.Loop() {
		buf.Reset()
		if err := encodeTo(&buf, list); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(buf.Len()))
}
