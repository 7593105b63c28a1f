package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"lade/internal/need"
	"lade/test/harness"
)

// TestSkopeo lets another program read what save writes, as each of the two
// layouts that it is, and reads what that program writes. The layer of the
// built-in image is in zstd: as a docker-archive it must be a plain tar.
func TestSkopeo(t *testing.T) {
	need.Root(t)
	skopeo := need.Program(t, "skopeo", "Debian's skopeo")
	e := harness.Start(t)
	dir := t.TempDir()
	saved := filepath.Join(dir, "saved.tar")
	e.Run("pull", "-q", "lade/hello")
	e.Run("save", "-o", saved, "lade/hello")
	id := e.Run("image", "inspect", "--format", "{{.Id}}", "lade/hello")
	diff := e.Run("image", "inspect", "--format", "{{index .RootFS.Layers 0}}", "lade/hello")

	read := func(layout string) (m ocispec.Manifest) {
		t.Helper()
		out := filepath.Join(dir, layout)
		if msg, err := exec.Command(skopeo, "--insecure-policy", "copy", layout+":"+saved, "dir:"+out).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", layout, err, msg)
		}
		raw, err := os.ReadFile(filepath.Join(out, "manifest.json"))
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(raw, &m); err != nil || len(m.Layers) != 1 {
			t.Fatalf("%s: %s, %v", layout, raw, err)
		}
		if m.Config.Digest.String() != id {
			t.Errorf("%s: the image is %s, not %s", layout, m.Config.Digest, id)
		}
		return m
	}
	if m := read("docker-archive"); m.Layers[0].Digest.String() != diff {
		t.Errorf("docker-archive: the layer is %s, not the plain tar %s", m.Layers[0].Digest, diff)
	}
	if m := read("oci-archive"); m.Layers[0].MediaType != ocispec.MediaTypeImageLayerZstd {
		t.Errorf("oci-archive: the layer is %+v", m.Layers[0])
	}

	back := filepath.Join(dir, "back.tar")
	if msg, err := exec.Command(skopeo, "--insecure-policy", "copy", "docker-archive:"+saved, "docker-archive:"+back+":back:latest").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, msg)
	}
	if out := e.Run("load", "-i", back); out != "Loaded image: back:latest" {
		t.Errorf("load: %q", out)
	}
	if out := e.Run("run", "--rm", "back", "echo", "it runs"); strings.TrimSpace(out) != "it runs" {
		t.Errorf("run: %q", out)
	}
}
