package bench

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"golang.org/x/sys/unix"

	"lade/internal/image/imagetest"
	"lade/internal/need"
	"lade/test/harness"
)

// TestStorage measures copies, deep images and the start with many objects.
func TestStorage(t *testing.T) {
	if os.Getenv("LADE_BENCH") == "" {
		t.Skip("make bench runs it")
	}
	need.Root(t)
	e := harness.Start(t)
	e.Run("import", rootfs(t), image)
	t.Run("copy", func(t *testing.T) { copies(t, e) })
	t.Run("many", func(t *testing.T) { many(t, e) })
	t.Run("deep", func(t *testing.T) { deep(t, e) })
}

// copies compares cp in both directions, of a container that runs, with plain
// cp of the same file on the same disk, in turns. Docker's client sends a tar; what
// the daemon has to do for that is told as processor time, as most of the time is
// the client's. LADE_BENCH_COPY_MB is the size of the file.
func copies(t *testing.T, e *harness.Engine) {
	mb := 1024
	if s := os.Getenv("LADE_BENCH_COPY_MB"); s != "" {
		var err error
		if mb, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	b := make([]byte, 1<<20)
	for i := range b {
		b[i] = byte(i*i>>3 + i)
	}
	if err := os.WriteFile(file, bytes.Repeat(b, mb), 0o644); err != nil {
		t.Fatal(err)
	}
	e.Run("run", "-d", "--name", "copies", "-v", "/vol", image, "sleep", "1000")
	e.Run("cp", file, "copies:/there")
	var plain, in, out, volume, dockerIn, dockerOut times
	var passedIn, passedOut, tarIn, tarOut times // processor time of laded
	for range 5 {
		for _, c := range []struct {
			took, spent *times // the second may be nil
			cmd         *exec.Cmd
		}{
			{&plain, nil, exec.Command("cp", file, file+".2")},
			{&volume, nil, e.Command("lade", "cp", file, "copies:/vol/file")},
			{&in, &passedIn, e.Command("lade", "cp", file, "copies:/file")},
			{&out, &passedOut, e.Command("lade", "cp", "copies:/there", file+".2")},
			{&dockerIn, &tarIn, e.Command("docker", "cp", "-q", file, "copies:/file")},
			{&dockerOut, &tarOut, e.Command("docker", "cp", "-q", "copies:/there", file+".2")},
		} {
			unix.Sync() // what others wrote must not slow it down
			before, begin := cpu(t, e.Pid()), time.Now()
			if msg, err := c.cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v: %v\n%s", c.cmd.Args, err, msg)
			}
			*c.took = append(*c.took, time.Since(begin))
			if c.spent != nil {
				*c.spent = append(*c.spent, time.Duration((cpu(t, e.Pid())-before)*float64(time.Millisecond)))
			}
			// Before the kernel writes it to the disk.
			if err := os.Remove(file + ".2"); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			e.Run("exec", "copies", "busybox", "rm", "-f", "/vol/file", "/file")
		}
	}
	e.Run("rm", "-fv", "copies")
	note(t, fmt.Sprintf("plain cp of %d MB", mb), plain.median(), "ms")
	limit(t, "cp into a container, as multiple of it", in.median()/plain.median(), 1.25, "x")
	limit(t, "cp out of a container, as multiple of it", out.median()/plain.median(), 1.25, "x")
	limit(t, "cp into a volume, as multiple of it", volume.median()/plain.median(), 1.25, "x")
	for _, c := range []struct {
		what         string
		took         times
		passed, sent times
	}{{"into", dockerIn, passedIn, tarIn}, {"out of", dockerOut, passedOut, tarOut}} {
		note(t, "docker cp "+c.what+" a container, as multiple of it", c.took.median()/plain.median(), "x")
		note(t, "  laded's processor time for its tar", c.sent.median(), "ms")
		note(t, "  … for a descriptor from lade cp", c.passed.median(), "ms")
	}
}

// deep compares the creation of a container on 50 layers with that on one.
func deep(t *testing.T, e *harness.Engine) {
	e.Run("tag", image, "deep:1")
	for i := 1; i < 50; i++ {
		name := "deep-" + strconv.Itoa(i)
		e.Run("create", "--name", name, fmt.Sprintf("deep:%d", i), "true")
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if err := w.WriteHeader(&tar.Header{Name: "etc/layer-" + strconv.Itoa(i), Typeflag: tar.TypeReg, Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		cp := e.Command("lade", "cp", "-", name+":/")
		cp.Stdin = &b
		if out, err := cp.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		e.Run("commit", name, fmt.Sprintf("deep:%d", i+1))
		e.Run("rm", name)
	}
	c := connect(t, e)
	made := func(img string) func() error {
		return func() error {
			res, err := c.ContainerCreate(t.Context(), client.ContainerCreateOptions{Config: &container.Config{Image: img, Cmd: []string{"true"}}})
			if err != nil {
				return err
			}
			_, err = c.ContainerRemove(t.Context(), res.ID, client.ContainerRemoveOptions{})
			return err
		}
	}
	var flat, high times
	for range 10 { // in turns
		flat = append(flat, measure(t, 20, made("deep:1"))...)
		high = append(high, measure(t, 20, made("deep:50"))...)
	}
	note(t, "create and remove on one layer", flat.median(), "ms")
	limit(t, "create and remove on 50 layers, as multiple of it", high.median()/flat.median(), 1.2, "x")
}

// many measures the daemon's start with 2,000 images, whose records are written
// behind its back, and 500 containers.
func many(t *testing.T, e *harness.Engine) {
	c := connect(t, e)
	for range 500 {
		if _, err := c.ContainerCreate(t.Context(), client.ContainerCreateOptions{Config: &container.Config{Image: image, Cmd: []string{"true"}}}); err != nil {
			t.Fatal(err)
		}
	}
	e.Stop()
	imagetest.Multiply(t, filepath.Join(e.Dir, "data"), 2000)
	var starts, spent times
	for i := range 5 {
		begin := time.Now()
		e.Launch()
		list, err := connect(t, e).ImageList(t.Context(), client.ImageListOptions{})
		if err != nil || len(list.Items) < 2000 {
			t.Fatalf("%d images, %v", len(list.Items), err)
		}
		starts = append(starts, time.Since(begin))
		spent = append(spent, time.Duration(cpu(t, e.Pid())*float64(time.Millisecond)))
		if i < 4 {
			e.Stop()
		}
	}
	limit(t, "laded: exec to first list, 2,000 images, 500 containers", starts.median(), 500, "ms")
	note(t, "  processor time of it", spent.median(), "ms")
	all, err := c.ContainerList(t.Context(), client.ContainerListOptions{All: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all.Items {
		if _, err := c.ContainerRemove(context.WithoutCancel(t.Context()), s.ID, client.ContainerRemoveOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}
