package escape

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/need"
	"lade/test/harness"
)

var serial atomic.Int32

// bundle is a container for lade-runtime.
type bundle struct {
	t    *testing.T
	dir  string
	root string
	bin  string
	Spec *specs.Spec
}

// newBundle makes a bundle of a root directory with the payload in it.
func newBundle(t *testing.T, root string, args ...string) *bundle {
	t.Helper()
	need.Root(t)
	b := &bundle{t: t, dir: t.TempDir(), root: root, bin: filepath.Join(harness.Bin(t), "lade-runtime")}
	if out, err := exec.CommandContext(t.Context(), b.bin, "spec", "--bundle", b.dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	raw, err := os.ReadFile(filepath.Join(b.dir, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	b.Spec = &specs.Spec{}
	if err := json.Unmarshal(raw, b.Spec); err != nil {
		t.Fatal(err)
	}
	b.Spec.Root = &specs.Root{Path: root}
	b.Spec.Process.Args, b.Spec.Process.Terminal = append([]string{"/payload"}, args...), false
	return b
}

// without leaves the mounts out whose destinations begin so.
func (b *bundle) without(prefix string) {
	b.Spec.Mounts = slices.DeleteFunc(b.Spec.Mounts, func(m specs.Mount) bool { return strings.HasPrefix(m.Destination, prefix) })
}

// command writes the configuration and returns what will run it, under a new name.
func (b *bundle) command(verb string, args ...string) (cmd *exec.Cmd, id string) {
	b.t.Helper()
	raw, err := json.Marshal(b.Spec)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(b.dir, "config.json"), raw, 0o644); err != nil {
		b.t.Fatal(err)
	}
	id = fmt.Sprintf("lade-escape-%d-%d", os.Getpid(), serial.Add(1))
	args = append([]string{"--root", filepath.Join(b.dir, "state"), verb, "--bundle", b.dir}, args...)
	return exec.CommandContext(b.t.Context(), b.bin, append(args, id)...), id
}

// runtime calls lade-runtime for a container that was made.
func (b *bundle) runtime(verb string, args ...string) (string, error) {
	args = append([]string{"--root", filepath.Join(b.dir, "state"), verb}, args...)
	out, err := exec.CommandContext(context.WithoutCancel(b.t.Context()), b.bin, args...).CombinedOutput()
	return string(out), err
}

// run runs the container to its end and returns what it said.
func (b *bundle) run() string {
	b.t.Helper()
	var out bytes.Buffer
	cmd, _ := b.command("run")
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(&out, "run:", err)
	}
	return out.String()
}
