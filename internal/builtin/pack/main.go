// Command pack builds cmd/lade-userland and packs it as the layer of the
// built-in image: go run ./internal/builtin/pack -o FILE [-arch GOARCH]. The
// same source gives the same bytes.
package main

import (
	"archive/tar"
	"bytes"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
)

func main() {
	out := flag.String("o", "internal/builtin/assets/userland.zst", "file to write")
	arch := flag.String("arch", runtime.GOARCH, "architecture of the programs")
	flag.Parse()
	if err := pack(*out, *arch); err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

func pack(out, arch string) (err error) {
	dir, err := os.MkdirTemp("", "lade-pack-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "userland")
	if err := build(program, arch); err != nil {
		return err
	}
	native := program
	if arch != runtime.GOARCH {
		native = filepath.Join(dir, "native")
		if err := build(native, runtime.GOARCH); err != nil {
			return err
		}
	}
	names, err := exec.Command(native, "--list").Output()
	if err != nil {
		return err
	}
	body, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	layer, err := layerTar(body, strings.Fields(string(names)))
	if err != nil {
		return err
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	packed := enc.EncodeAll(layer, nil)
	if err := enc.Close(); err != nil {
		return err
	}
	temp := out + ".new"
	if err := os.WriteFile(temp, packed, 0o644); err != nil {
		return err
	}
	return os.Rename(temp, out)
}

func build(out, arch string) error {
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -buildid=", "-o", out, "lade/cmd/lade-userland")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch)
	cmd.Stderr = os.Stderr
	return cmd.Run()
}

// layerTar returns the root file system: the program, its names, and the few
// files that programs expect.
func layerTar(program []byte, names []string) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(h tar.Header, body []byte) error {
		h.ModTime = time.Unix(0, 0)
		h.Size = int64(len(body))
		h.Format = tar.FormatPAX
		if err := w.WriteHeader(&h); err != nil {
			return err
		}
		_, err := w.Write(body)
		return err
	}
	for _, d := range []struct {
		name string
		mode fs.FileMode
	}{
		{"bin", 0o755}, {"dev", 0o755}, {"etc", 0o755}, {"home", 0o755}, {"mnt", 0o755}, {"proc", 0o555}, {"root", 0o700}, {"run", 0o755},
		{"srv", 0o755}, {"sys", 0o555}, {"tmp", 0o1777}, {"usr", 0o755}, {"usr/local", 0o755}, {"usr/local/bin", 0o755},
		{"var", 0o755}, {"var/log", 0o755}, {"var/tmp", 0o1777},
	} {
		if err := add(tar.Header{Typeflag: tar.TypeDir, Name: d.name + "/", Mode: int64(d.mode)}, nil); err != nil {
			return nil, err
		}
	}
	for _, f := range [][2]string{
		{"etc/group", "root:x:0:\ndaemon:x:1:\ntty:x:5:\nusers:x:100:\nnogroup:x:65534:\n"},
		{"etc/hosts", "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"},
		{"etc/nsswitch.conf", "hosts: files dns\n"},
		{"etc/os-release", "ID=lade\nNAME=lade\nPRETTY_NAME=\"the built-in image of lade\"\n"},
		{"etc/passwd", "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/:/bin/false\nnobody:x:65534:65534:nobody:/:/bin/false\n"},
		{"etc/shells", "/bin/sh\n"},
	} {
		if err := add(tar.Header{Typeflag: tar.TypeReg, Name: f[0], Mode: 0o644}, []byte(f[1])); err != nil {
			return nil, err
		}
	}
	if err := add(tar.Header{Typeflag: tar.TypeReg, Name: "bin/userland", Mode: 0o755}, program); err != nil {
		return nil, err
	}
	for _, n := range names { // sorted
		if err := add(tar.Header{Typeflag: tar.TypeSymlink, Name: "bin/" + n, Linkname: "userland", Mode: 0o777}, nil); err != nil {
			return nil, err
		}
	}
	for _, l := range [][2]string{{"sbin", "bin"}, {"usr/bin", "../bin"}, {"usr/sbin", "../bin"}, {"var/run", "../run"}} {
		if err := add(tar.Header{Typeflag: tar.TypeSymlink, Name: l[0], Linkname: l[1], Mode: 0o777}, nil); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
