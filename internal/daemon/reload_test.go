package daemon

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestChanges reloads every option of the file that has a value of its own here.
func TestChanges(t *testing.T) {
	load := func(file string) *Config {
		c, err := Load([]string{config(t, file)})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	const was = `{"labels": ["a=b"], "log-opts": {"max-size": "1m"}}`
	for file, want := range map[string]struct{ live, restart string }{
		was: {},
		`{"labels": ["a=c"], "log-opts": {"max-size": "1m"}}`:                                                       {live: "labels"},
		`{"log-opts": {"max-size": "1m"}, "default-ulimits": {"nofile": {"Name": "nofile", "Soft": 7, "Hard": 7}}}`: {live: "labels default-ulimits"},
		`{"labels": ["a=b"], "log-opts": {"max-size": "2m"}, "icc": false, "default-shm-size": "1M"}`:               {live: "log-opts default-shm-size", restart: "icc"},
		`{"labels": ["a=b"], "log-opts": {"max-size": "1m"}, "registry-mirrors": ["https://m"], "max-transfers": 3, "registries": {"ghcr.io": {"mirrors": ["https://m"]}}}`: {
			live: "registry-mirrors max-transfers registries"},
		`{"labels": ["a=b"], "log-opts": {"max-size": "1m"}, "cdi-spec-dirs": ["/x"], "features": {"cdi": false}}`: {live: "cdi-spec-dirs features"},
		`{"labels": ["a=b"], "log-opts": {"max-size": "1m"}, "allow-direct-routing": true, "bridge-accept-fwmark": "1", "apparmor-profile": "x"}`: {
			restart: "allow-direct-routing bridge-accept-fwmark apparmor-profile"},
		`{"labels": ["a=b"], "log-opts": {"max-size": "1m"}, "hosts": ["tcp://127.0.0.1:1"], "mtu": 1400}`: {restart: "hosts mtu"},
	} {
		before, said := load(was), load(file)
		now := before.follow(said)
		if got := keys(changes(before, now)); !sameWords(got, want.live) {
			t.Errorf("%s: live: %q", file, got)
		}
		if got := keys(changes(now, said)); !sameWords(got, want.restart) {
			t.Errorf("%s: at a restart: %q", file, got)
		}
	}
}

func keys(all []change) (out []string) {
	for _, c := range all {
		out = append(out, c.key)
	}
	return out
}

func sameWords(got []string, want string) bool {
	list := strings.Fields(want)
	slices.Sort(list)
	return slices.Equal(slices.Sorted(slices.Values(got)), list)
}

// TestReload: a file that is not valid changes nothing, and the next one does.
func TestReload(t *testing.T) {
	file := filepath.Join(t.TempDir(), "daemon.json")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"mtu": 1500, "log-level": "info"}`)
	d := launch(t, "--config-file="+file)
	for _, c := range []struct{ text, says string }{
		{`{"mtu": "wide"}`, "configuration not reloaded"},
		{`{"mtu": 1400, "log-level": "info"}`, `level=WARN msg="option changes when the daemon is restarted" option=mtu value=1400`},
		{`{"mtu": 1400, "log-level": "debug"}`, `level=INFO msg="option changed" option=log-level value=debug`},
		{`{"mtu": 1400, "log-level": "debug", "disk": {"high-water": 90}}`, `option=disk value="above 90 % used, down to 80 %"`},
		{`{"mtu": 1400, "log-level": "debug", "registries": {"x.y": {"insecure": true}}}`, `option=registries value=[x.y]`},
	} {
		write(c.text)
		d.Process.Signal(syscall.SIGHUP)
		d.log.Await(t, c.says)
	}
	if _, err := d.get("/hello"); err != nil {
		t.Error(err)
	}
	d.log.Await(t, "level=DEBUG")
	if n := strings.Count(d.log.String(), "option=mtu"); n != 4 { // by each reload that was taken over
		t.Errorf("told %d times:\n%s", n, d.log)
	}
}

// TestRegistries refuses settings of registries that cannot hold.
func TestRegistries(t *testing.T) {
	for file, want := range map[string]string{
		`{"registries": {"x.y": {"mirrors": ["ftp://m"]}}}`: `invalid mirror: "ftp://m" is not a valid URI`,
		`{"registries": {"x.y": {"cert": "/a"}}}`:           "registry x.y: cert and key need each other",
		`{"registries": {"https://x.y": {}}}`:               `invalid registry "https://x.y": should be a host, or host:port, or *`,
		`{"registries": {"x.y": {"mirror": "https://m"}}}`:  `json: unknown field "mirror"`,
		`{"max-transfers": -1}`:                             "invalid max transfers: -1",
		`{"max-layer-size": "-1"}`:                          "max-layer-size: invalid size: '-1'",
	} {
		if _, err := Load([]string{config(t, file)}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", file, err)
		}
	}
}
