package crash

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/mount"

	"lade/internal/need"
	"lade/test/harness"
)

// places returns the names of all failpoints, from the source.
func places(t *testing.T) []string {
	t.Helper()
	hit := regexp.MustCompile(`failpoint\.Hit\("([^"]+)"\)`)
	var names []string
	err := filepath.WalkDir("../../internal", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") {
			return err
		}
		raw, err := os.ReadFile(path)
		for _, m := range hit.FindAllSubmatch(raw, -1) {
			names = append(names, string(m[1]))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// TestPoints ends the daemon or the supervisor at every failpoint, at its
// first hit and at later ones, in the middle of a script that uses everything;
// what was acknowledged holds, and the rest of the script goes on. LADE_PLACE is
// a pattern of the places to try.
func TestPoints(t *testing.T) { harness.EachRuntime(t, points) }

func points(t *testing.T, flags ...string) { pointsOf(t, script, flags...) }

// pointsOf does as TestPoints with another script.
func pointsOf(t *testing.T, script func(p *player, base string), flags ...string) {
	need.Root(t)
	bin := t.TempDir()
	for name, tags := range map[string]string{"laded": "failpoint", "lade-supervisor": "failpoint", "lade": "", "lade-init": "", "lade-runtime": ""} {
		if tags == "" {
			if err := os.Symlink(filepath.Join(harness.Bin(t), name), filepath.Join(bin, name)); err != nil {
				t.Fatal(err)
			}
			continue
		}
		cmd := exec.Command("go", "build", "-tags", tags, "-o", filepath.Join(bin, name), "lade/cmd/"+name)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	armed := filepath.Join(t.TempDir(), "armed")
	e := harness.StartFrom(t, bin, []string{"LADE_FAILPOINT=" + armed}, flags...)
	base := e.Import()
	foreign := slices.Contains(flags, "--default-runtime")
	layers := 0
	some := regexp.MustCompile(os.Getenv("LADE_PLACE"))
	for _, place := range places(t) {
		if !some.MatchString(place) {
			continue
		}
		if ofRuntime := regexp.MustCompile(`^(foreign|supervisor|engine\.launch)`).MatchString(place); foreign && !ofRuntime {
			continue // the same for every runtime
		}
		if !foreign && strings.HasPrefix(place, "foreign.") {
			continue // of others
		}
		crashes := 0
		for n := 1; n < 100; n *= 3 {
			token := fmt.Sprintf("%s-%d", place, n)
			p := newPlayer(t, e, strings.ReplaceAll(place, ".", "-")+fmt.Sprintf("-%d-", n), 0)
			p.revive = e.Revive
			// A layer of its own, so that it is unpacked.
			layers++
			p.rootfs = bytes.Replace(p.rootfs, []byte(":root:"), fmt.Appendf(nil, ":%04d:", layers), 1)
			if err := os.WriteFile(armed, []byte(fmt.Sprintf("%s %d %s", place, n, token)), 0o600); err != nil {
				t.Fatal(err)
			}
			script(p, base)
			p.clean()
			e.Revive() // it may have ended after the last answer
			if err := os.Remove(armed); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(armed + "." + token); err != nil {
				break // it was not hit so often
			}
			crashes++
		}
		if crashes == 0 {
			t.Errorf("%s is never hit", place)
		}
		for _, what := range []string{"ps -aq", "volume ls -q", "network ls -q --filter type=custom"} {
			if out := e.Run(strings.Fields(what)...); out != "" {
				t.Errorf("%s: %s: %s", place, what, out)
			}
		}
		e.Stop()
		if out, err := e.Check(); err != nil {
			t.Errorf("%s: %v\n%s", place, err, out)
		}
		e.Launch()
		t.Logf("%s: %d crashes", place, crashes)
		if t.Failed() {
			return
		}
	}
}

// script does a little of everything.
func script(p *player, base string) {
	a, b, auto := p.object("container", "a"), p.object("container", "b"), p.object("container", "auto")
	v, i := p.object("volume", "v"), p.object("image", "i")
	auto.auto = true
	p.mounts = []mount.Mount{
		{Type: mount.TypeImage, Source: base, Target: "/image", ImageOptions: &mount.ImageOptions{Subpath: "bin"}},
		{Type: mount.TypeVolume, Target: "/ram", VolumeOptions: &mount.VolumeOptions{
			DriverConfig: &mount.Driver{Options: map[string]string{"type": "tmpfs", "device": "tmpfs"}},
		}},
	}
	p.loadImage(i)
	p.makeVolume(v)
	s := p.object("secret", "s")
	p.makeSecret(s)
	image := base
	if i.state == there {
		image = i.name
	}
	p.create(a, image, v.name)
	p.start(a)
	p.exec(a)
	p.limit(a)
	p.amend(a, v)
	p.publish(a)
	n := p.object("network", "n")
	p.makeNetwork(n)
	p.join(a, n)
	p.leave(a, n)
	p.removeNetwork(n)
	made := p.object("image", "made")
	p.commit(a, made)
	p.removeImage(made)
	p.pause(a)
	p.unpause(a)
	p.rename(a, b)
	p.stop(b)
	p.start(b)
	p.kill(b)
	p.create(auto, base, "")
	p.start(auto)
	p.restart(auto)
	p.stop(auto)
	p.remove(b, true)
	copied, named := p.object("volume", "copy"), p.object("volume", "named")
	p.cloneVolume(v, copied)
	p.renameVolume(copied, named)
	p.removeVolume(copied)
	p.removeVolume(named)
	p.removeVolume(v)
	p.removeSecret(s)
	p.removeImage(i)
}
