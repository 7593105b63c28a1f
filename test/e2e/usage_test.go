package e2e

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/docker/go-units"

	"lade/internal/need"
	"lade/test/harness"
)

// onDiskBelow is what the files below a directory take, each once, in bytes.
func onDiskBelow(t *testing.T, dir string) (sum int64) {
	t.Helper()
	seen := map[uint64]bool{}
	err := filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return gone(err)
		}
		fi, err := d.Info()
		if err != nil {
			return gone(err)
		}
		if st := fi.Sys().(*syscall.Stat_t); !seen[st.Ino] {
			seen[st.Ino] = true
			sum += st.Blocks * 512
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// gone is an error but for a file that is being deleted.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// alike reports whether two sizes are so but for directories, documents and the
// rounding of what is printed.
func alike(a, b int64) bool { return max(a-b, b-a) <= b/10+256<<10 }

// TestDiskUsage: what `system df` says is on the disk is there, and what it says
// that can be had is what prune gives back.
func TestDiskUsage(t *testing.T) {
	need.Root(t)
	need.Program(t, "docker", "docker-cli")
	e := harness.Start(t, "--storage-driver", "overlay2")
	img, docker := e.Import(), client(t, e)
	data := filepath.Join(e.Dir, "data")
	near := func(what string, got, want int64) {
		t.Helper()
		if !alike(got, want) {
			t.Errorf("%s: %d bytes, want about %d", what, got, want)
		}
	}
	type row struct{ Type, Size, Reclaimable string }
	usage := func() map[string][2]int64 {
		t.Helper()
		out := map[string][2]int64{}
		for line := range strings.Lines(e.Run("system", "df", "--format", "json")) {
			var r row
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			size, err := units.FromHumanSize(r.Size)
			if err != nil {
				t.Fatal(err)
			}
			free, _, _ := strings.Cut(r.Reclaimable, " (")
			reclaimable, err := units.FromHumanSize(free)
			if err != nil {
				t.Fatal(err)
			}
			out[r.Type] = [2]int64{size, reclaimable}
		}
		return out
	}
	const mb = 1 << 20
	fill := func(name, where, count string) {
		docker("run", "--name", name, "-v", "vol:/vol", img, "dd", "if=/dev/urandom", "of="+where, "bs=1M", "count="+count)
		docker("run", "--rm", "--volumes-from", name, img, "truncate", "-s", "1G", "/vol/hole")
	}
	// An image on top of another one shares its layers; a second name takes nothing.
	fill("base", "/f", "6")
	docker("commit", "base", "above")
	docker("tag", "above", "again")
	docker("rm", "base")
	fill("one", "/f", "5")
	fill("two", "/vol/f", "3")
	docker("run", "-d", "--name", "runs", "above", "sleep", "1000")
	images := onDiskBelow(t, filepath.Join(data, "content")) + onDiskBelow(t, filepath.Join(data, "overlay2"))
	got := usage()
	near("containers", got["Containers"][0], 5*mb)
	near("containers that do not run", got["Containers"][1], 5*mb)
	near("volumes", got["Local Volumes"][0], 3*mb)
	near("volumes that nobody uses", got["Local Volumes"][1], 0)
	near("images and containers", got["Images"][0]+got["Containers"][0], images)
	near("images that no container uses", got["Images"][1], 0)
	for _, client := range []string{"docker", "lade"} {
		out, err := e.Command(client, "system", "df", "-v").CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if strings.Contains(string(out), " -") {
			t.Errorf("%s system df -v has less than nothing:\n%s", client, out)
		}
		for _, want := range []string{"above", "lade-test/busybox", "runs", "vol"} {
			if !strings.Contains(string(out), want) {
				t.Errorf("%s system df -v lacks %s:\n%s", client, want, out)
			}
		}
	}
	// What is said to be reclaimable is what goes: first by containers that ended,
	// then by what only they used.
	docker("rm", "-f", "runs")
	reclaimed := func(args ...string) int64 {
		t.Helper()
		out := docker(args...)
		_, told, _ := strings.Cut(out, "Total reclaimed space: ")
		n, err := units.FromHumanSize(strings.TrimSpace(told))
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return n
	}
	for _, step := range []struct {
		kind  string
		prune []string
	}{
		{"Containers", []string{"container", "prune", "-f"}},
		{"Local Volumes", []string{"volume", "prune", "-af"}},
		{"Images", []string{"image", "prune", "-af"}},
	} {
		before, said := onDiskBelow(t, data), usage()[step.kind][1]
		near(step.kind+": prune says", reclaimed(step.prune...), said)
		// Directories are deleted in the background.
		for end := time.Now().Add(need.Patience(30 * time.Second)); !alike(before-onDiskBelow(t, data), said) && time.Now().Before(end); {
			time.Sleep(20 * time.Millisecond)
		}
		near(step.kind+": prune gives back", before-onDiskBelow(t, data), said)
		if left := usage()[step.kind]; left[0] != 0 || left[1] != 0 {
			t.Errorf("%s: %v are left", step.kind, left)
		}
	}
}
