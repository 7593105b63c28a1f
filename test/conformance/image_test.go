package conformance

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"testing"
)

type object map[string]any

// image makes an OCI image of one layer, of a compressed root file system, as
// an archive: image-layout.md.
func image(t *testing.T, root string) []byte {
	t.Helper()
	layer, err := os.ReadFile(root)
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(layer))
	if err != nil {
		t.Fatal(err)
	}
	plain := sha256.New()
	if _, err := io.Copy(plain, z); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	put := func(name string, b []byte) {
		err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(b))})
		if err == nil {
			_, err = w.Write(b)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	blob := func(kind string, b []byte) object {
		sum := fmt.Sprintf("%x", sha256.Sum256(b))
		put("blobs/sha256/"+sum, b)
		return object{"mediaType": "application/vnd.oci.image." + kind, "digest": "sha256:" + sum, "size": len(b)}
	}
	encode := func(v any) []byte {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	put("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`))
	config := blob("config.v1+json", encode(object{
		"architecture": runtime.GOARCH, "os": "linux", "config": object{"Env": []string{"PATH=/bin"}, "Cmd": []string{"sh"}},
		"rootfs": object{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", plain.Sum(nil))}},
	}))
	manifest := blob("manifest.v1+json", encode(object{
		"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
		"config": config, "layers": []object{blob("layer.v1.tar+gzip", layer)},
	}))
	manifest["annotations"] = object{"io.containerd.image.name": "docker.io/library/box:latest"}
	put("index.json", encode(object{"schemaVersion": 2, "manifests": []object{manifest}}))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
