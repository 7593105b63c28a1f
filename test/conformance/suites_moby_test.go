package conformance

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"lade/internal/need"
	"lade/test/harness"
)

// mobyEngine are the integration tests of Docker's engine. Some start engines of
// their own, by the name dockerd and with its flags.
var mobyEngine = upstream{
	name: "moby",
	source: source{
		module: "github.com/moby/moby/v2", version: "v2.0.0-beta.24",
		sum: "h1:sWv7EckkDJhpraR9yUjkw1XeVf39+MWd58E22PYloNA=",
	},
	packages: []string{"integration/container", "integration/image", "integration/volume", "integration/system", "integration/network"},
	prepare: func(t *testing.T, st *stage) {
		ownHost(t)
		st.e = harness.Start(t, harness.Apart()...)
		busybox(t, st.e, "busybox:latest", "busybox:glibc")
		helloWorld(t, st.e, "hello-world:latest", "hello-world:frozen", "hello-world:amd64", "hello-world:arm64", "arm32v7/hello-world:latest")
		st.e.ImportFile(servicesTree(t), "debian:trixie-slim")
		bin := t.TempDir()
		if err := os.Mkdir(filepath.Join(st.e.Dir, "moby"), 0o755); err != nil {
			t.Fatal(err)
		}
		tmp, group := filepath.Join(st.e.Dir, "moby"), st.e.Group()+"-moby"
		t.Cleanup(func() { sweepEngines(t, group, tmp) })
		script := fmt.Sprintf(dockerd, tmp, need.Binary(t, "laded"), group)
		if err := os.WriteFile(filepath.Join(bin, "dockerd"), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(need.Program(t, "docker-registry", "Debian's docker-registry"), filepath.Join(bin, "registry")); err != nil {
			t.Fatal(err)
		}
		st.env = []string{"DOCKER_HOST=unix://" + st.e.Socket, "PATH=" + bin + string(os.PathListSeparator) + os.Getenv("PATH"), "DEST=" + filepath.Join(tmp, "dest"), "TMPDIR=" + tmp, "TEST_CLIENT_BINARY=docker"}
	},
}

// dockerd starts a daemon. An engine that a failed test has left has docker0 yet,
// and lade's do not share a bridge: the next one gets another, and keeps it.
const dockerd = `#!/bin/sh
for a; do [ "$last" = --data-root ] && root=$a; last=$a; done
mark=%[1]s/bridge-$(echo "$root" | cksum | cut -d" " -f1)
[ -e "$mark" ] || if ip link show docker0 >/dev/null 2>&1; then echo --bridge="jd${mark##*-}" >"$mark"; else : >"$mark"; fi
exec %[2]s --cgroup-parent %[3]s $(cat "$mark") "$@"
`
