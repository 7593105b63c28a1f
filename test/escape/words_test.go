package escape

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"os"
	"runtime"
	"strings"
	"testing"

	godigest "github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestImageWords is CVE-2026-94603: what an image says of itself, by labels and by
// annotations of its index, its manifest and its layers, is taken for what the user
// asks for.
func TestImageWords(t *testing.T) {
	w := newWorld(t)
	archive := talkative(t, w.Rootfs(), map[string]string{
		"lade.userns": "auto", "lade.time-offset": "boottime=+1000h", "lade.cgroup-conf.pids.max": "1", "lade.net-rate-out": "1kbit",
		"lade.health-on-failure": "kill", "io.podman.annotations.privileged": "TRUE", "io.podman.annotations.checkpoint.runtime.name": "lade",
		"run.oci.handler": "krun", "org.systemd.property.CPUWeight": "1", v1.AnnotationRefName: "words:latest", "io.containerd.image.name": "words:latest",
	})
	load := w.Command("lade", "load")
	load.Stdin = bytes.NewReader(archive)
	if out, err := load.CombinedOutput(); err != nil {
		t.Fatalf("load: %v %s", err, out)
	}
	if out := w.Run("inspect", "--type", "image", "--format", `{{index .Config.Labels "lade.userns"}}`, "words"); out != "auto" {
		t.Fatalf("the image's label is %q", out)
	}
	namespace := func(o ...string) string {
		t.Helper()
		return w.Run(append(append(options{"run", "--rm"}, o...), "words", "readlink", "/proc/self/ns/user")...)
	}
	host, err := os.Readlink("/proc/self/ns/user")
	if err != nil {
		t.Fatal(err)
	}
	if got := namespace(); got != host {
		t.Errorf("the image chooses the user namespace %s, the host's is %s", got, host)
	}
	if got := namespace("--annotation", "lade.userns=auto"); got == host {
		t.Errorf("its user cannot choose: %s", got)
	}
	w.Run("create", "--name", "created", "words", "true")
	if out := w.Run("inspect", "--format", "{{json .HostConfig.Annotations}}", "created"); strings.ContainsRune(out, ':') {
		t.Errorf("annotations: %s", out)
	}
}

// talkative makes an OCI layout of an image whose every part says these words.
func talkative(t *testing.T, layer []byte, words map[string]string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	add := func(name string, content []byte) {
		t.Helper()
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	document := func(v any) []byte {
		t.Helper()
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	blob := func(mediaType string, content []byte) v1.Descriptor {
		t.Helper()
		d := godigest.FromBytes(content)
		add("blobs/sha256/"+d.Encoded(), content)
		return v1.Descriptor{MediaType: mediaType, Size: int64(len(content)), Digest: d, Annotations: words}
	}
	packed := blob(v1.MediaTypeImageLayer, layer)
	var image v1.Image
	image.OS, image.Architecture, image.Config.Labels = "linux", runtime.GOARCH, words
	image.RootFS.Type, image.RootFS.DiffIDs = "layers", append(image.RootFS.DiffIDs, packed.Digest)
	manifest := v1.Manifest{MediaType: v1.MediaTypeImageManifest, Config: blob(v1.MediaTypeImageConfig, document(image)), Layers: []v1.Descriptor{packed}, Annotations: words}
	manifest.SchemaVersion = 2
	index := v1.Index{MediaType: v1.MediaTypeImageIndex, Manifests: []v1.Descriptor{blob(v1.MediaTypeImageManifest, document(manifest))}, Annotations: words}
	index.SchemaVersion = 2
	add(v1.ImageIndexFile, document(index))
	add(v1.ImageLayoutFile, document(v1.ImageLayout{Version: v1.ImageLayoutVersion}))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
