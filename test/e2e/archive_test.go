package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/rogpeppe/go-internal/testscript"
)

// blob is a file named by its digest.
type blob []byte

func (b blob) hex() string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func (b blob) digest() string { return "sha256:" + b.hex() }

// entry is a file of a tar.
type entry struct {
	tar.Header
	content string
}

func file(name, content string) entry {
	return entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644}, content}
}

// pack makes a tar.
func pack(entries ...entry) blob {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		e.Size = int64(len(e.content))
		if err := w.WriteHeader(&e.Header); err != nil {
			panic(err)
		}
		if _, err := io.WriteString(w, e.content); err != nil {
			panic(err)
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// compress packs b with "gzip", "zstd" or "".
func compress(kind string, b []byte) blob {
	var out bytes.Buffer
	var w io.WriteCloser
	switch kind {
	case "":
		return b
	case "gzip":
		w = gzip.NewWriter(&out)
	case "zstd":
		z, err := zstd.NewWriter(&out)
		if err != nil {
			panic(err)
		}
		w = z
	}
	if _, err := w.Write(b); err != nil {
		panic(err)
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return out.Bytes()
}

// asJSON encodes what a test made.
func asJSON(v any) blob {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// picture is a small image: two layers, the second of which takes a file of
// the first away.
type picture struct {
	layers      []blob // uncompressed
	config      blob
	compression string
}

// portrait makes an image whose text tells it from others; further entries go
// to its last layer.
func portrait(text, compression string, more ...entry) picture {
	p := picture{compression: compression, layers: []blob{
		pack(entry{tar.Header{Typeflag: tar.TypeDir, Name: "d/", Mode: 0o755}, ""}, file("d/one", text), file("d/gone", "x")),
		pack(append([]entry{file("d/.wh.gone", ""), file("two", text)}, more...)...),
	}}
	type m = map[string]any
	p.config = asJSON(m{
		"architecture": "amd64", "os": "linux", "created": "2024-01-02T03:04:05Z",
		"config":  m{"Cmd": []string{"/bin/true"}, "Env": []string{"TEXT=" + text}, "Labels": m{"made": "by hand"}},
		"rootfs":  m{"type": "layers", "diff_ids": []string{p.layers[0].digest(), p.layers[1].digest()}},
		"history": []m{{"created": "2024-01-02T03:04:05Z", "created_by": "one"}, {"created": "2024-01-02T03:04:05Z", "created_by": "two"}},
	})
	return p
}

// descriptor is an OCI descriptor.
type descriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      string            `json:"digest"`
	Size        int               `json:"size"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

func describe(mediaType string, b blob) descriptor {
	return descriptor{MediaType: mediaType, Digest: b.digest(), Size: len(b)}
}

const (
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	configType   = "application/vnd.oci.image.config.v1+json"
	layerType    = "application/vnd.oci.image.layer.v1.tar"
)

// oci returns the image's manifest and all blobs that it names.
func (p picture) oci() (manifest blob, blobs []blob) {
	layers := make([]descriptor, 0, len(p.layers))
	for _, l := range p.layers {
		b := compress(p.compression, l)
		blobs = append(blobs, b)
		mediaType := layerType
		if p.compression != "" {
			mediaType += "+" + p.compression
		}
		layers = append(layers, describe(mediaType, b))
	}
	blobs = append(blobs, p.config)
	manifest = asJSON(map[string]any{
		"schemaVersion": 2, "mediaType": manifestType, "config": describe(configType, p.config), "layers": layers,
	})
	return manifest, blobs
}

// dockerArchive is what `docker save` wrote before version 25.
func (p picture) dockerArchive(name string) []entry {
	entries := []entry{file(p.config.hex()+".json", string(p.config))}
	layers := make([]string, 0, len(p.layers))
	for i, l := range p.layers {
		path := fmt.Sprintf("layer%d/layer.tar", i)
		layers = append(layers, path)
		entries = append(entries, file(path, string(compress(p.compression, l))))
	}
	manifest := asJSON([]map[string]any{{"Config": p.config.hex() + ".json", "RepoTags": []string{name}, "Layers": layers}})
	return append(entries, file("manifest.json", string(manifest)))
}

// layout is an OCI image layout.
func (p picture) layout(name string) []entry {
	manifest, blobs := p.oci()
	top := describe(manifestType, manifest)
	top.Annotations = map[string]string{"io.containerd.image.name": "docker.io/library/" + name, "org.opencontainers.image.ref.name": name[strings.Index(name, ":")+1:]}
	entries := []entry{
		file("oci-layout", `{"imageLayoutVersion":"1.0.0"}`),
		file("index.json", string(asJSON(map[string]any{"schemaVersion": 2, "manifests": []descriptor{top}}))),
	}
	for _, b := range append(blobs, manifest) {
		entries = append(entries, file("blobs/sha256/"+b.hex(), string(b)))
	}
	return entries
}

// mkimage writes an image archive for `load`:
//
//	mkimage docker|oci FILE NAME [gzip|zstd] [FAULT]
//
// FAULT is truncated, digest (a layer's content is not what its digest says),
// traversal (a layer with ../), symlink (a layer that writes through a link to
// the outside), device (a hard link to the outside), or packed (the whole
// archive is gzip).
func mkimage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: mkimage docker|oci FILE NAME [gzip|zstd] [FAULT]")
	}
	kind, path, name, options := args[0], ts.MkAbs(args[1]), args[2], args[3:]
	compression, fault := "", ""
	for _, o := range options {
		if o == "gzip" || o == "zstd" {
			compression = o
		} else {
			fault = o
		}
	}
	var more []entry
	switch fault {
	case "traversal":
		more = []entry{file("../../../../../../../../tmp/lade-e2e-escaped", "x")}
	case "symlink":
		more = []entry{
			{tar.Header{Typeflag: tar.TypeSymlink, Name: "out", Linkname: "/tmp"}, ""},
			file("out/lade-e2e-escaped", "x"),
		}
	case "device":
		more = []entry{{tar.Header{Typeflag: tar.TypeLink, Name: "host", Linkname: "../../../../../../../../etc/hostname"}, ""}}
	}
	p := portrait(name, compression, more...)
	entries := p.layout(name)
	if kind == "docker" {
		entries = p.dockerArchive(name)
	}
	if fault == "digest" {
		for i := range entries {
			if n := entries[i].Name; len(entries[i].content) >= 512 && (strings.HasPrefix(n, "blobs/") || strings.HasSuffix(n, "layer.tar")) {
				c := []byte(entries[i].content)
				c[len(c)/2] ^= 1
				entries[i].content = string(c)
				break
			}
		}
	}
	out := []byte(pack(entries...))
	switch fault {
	case "truncated":
		out = out[:len(out)/2]
	case "packed":
		out = compress("gzip", out)
	}
	ts.Check(os.WriteFile(path, out, 0o600))
}
