package registry

import (
	"context"
	"testing"
)

// FuzzHosts reads any hosts.toml: an error or endpoints, never a panic.
func FuzzHosts(f *testing.F) {
	c, err := New(Config{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("server = \"https://x\"\n[host.\"https://y\"]\ncapabilities = [\"pull\"]\nclient = [[\"a\", \"b\"]]\n[host.\"https://y\".header]\nx = [\"y\"]\n")
	f.Add("ca = [\"a\"]\nclient = \"b\"\nskip_verify = true\noverride_path = true\n")
	f.Fuzz(func(t *testing.T, text string) {
		all, err := c.parseHosts(context.Background(), "registry.example", "/nowhere", []byte(text))
		if err == nil && len(all) == 0 {
			t.Error("neither an error nor an endpoint")
		}
		for _, e := range all {
			if e.base.Host == "" || e.client == nil {
				t.Errorf("%+v", e)
			}
		}
	})
}

// FuzzChallenge reads any challenge.
func FuzzChallenge(f *testing.F) {
	f.Add(`Bearer realm="https://x/token",service="s",scope="repository:a/b:pull"`)
	f.Fuzz(func(_ *testing.T, text string) { bearer(text) })
}
