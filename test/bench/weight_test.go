package bench

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
	"golang.org/x/sys/unix"

	"lade/internal/linux/loop"
	"lade/internal/need"
	"lade/test/harness"
)

// TestWeight measures what two containers get of a disk of which both want more
// than there is, by their weights, which are exchanged meanwhile. Only the
// scheduler bfq knows weights; the disk is a file, whose limit is the processor,
// so that the shares are far from the weights (1 to 100).
func TestWeight(t *testing.T) {
	if os.Getenv("LADE_BENCH") == "" {
		t.Skip("make bench runs it")
	}
	need.Root(t)
	back, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	if err := back.Truncate(16 << 20); err != nil {
		t.Fatal(err)
	}
	dev, err := loop.Attach(back)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close() // which detaches it
	queue := filepath.Join("/sys/block", filepath.Base(dev.Name()), "queue")
	if err := os.WriteFile(filepath.Join(queue, "scheduler"), []byte("bfq"), 0); err != nil {
		t.Skipf("this kernel has no scheduler bfq: %v", err)
	}
	// Who wrote little is not to be favoured for it.
	if err := os.WriteFile(filepath.Join(queue, "iosched/low_latency"), []byte("0"), 0); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(dev.Name(), &st); err != nil {
		t.Fatal(err)
	}
	e := harness.Start(t)
	e.Run("import", rootfs(t), image)
	c := connect(t, e)
	const read = "for i in 1 2 3 4; do (while :; do busybox dd if=/dev/disk of=/dev/null iflag=direct bs=1M; done) 2>/dev/null & done; wait"
	names := []string{"first", "second"}
	for _, name := range names {
		e.Run("run", "-d", "--name", name, "--network", "none", "--device", dev.Name()+":/dev/disk", "--blkio-weight", "100", image, "busybox", "sh", "-c", read)
	}
	for heavy, name := range names {
		e.Run("update", "--blkio-weight", "1000", name)
		e.Run("update", "--blkio-weight", "10", names[1-heavy])
		var before, after [2]uint64
		for i, n := range names {
			before[i] = transferred(t, c, n, st.Rdev)
		}
		time.Sleep(3 * time.Second)
		for i, n := range names {
			after[i] = transferred(t, c, n, st.Rdev) - before[i]
		}
		limit(t, name+": what the light one reads, of what it does", float64(after[1-heavy])/float64(max(after[heavy], 1)), 0.8, "x")
	}
	e.Run("rm", "-f", names[0], names[1])
}

// transferred is how many bytes a container has read from a device and written to
// it.
func transferred(t *testing.T, c *client.Client, name string, device uint64) (bytes uint64) {
	t.Helper()
	r, err := c.ContainerStats(t.Context(), name, client.ContainerStatsOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	var s container.StatsResponse
	if err := json.NewDecoder(r.Body).Decode(&s); err != nil {
		t.Fatal(err)
	}
	for _, b := range s.BlkioStats.IoServiceBytesRecursive {
		if op := strings.ToLower(b.Op); b.Major == uint64(unix.Major(device)) && b.Minor == uint64(unix.Minor(device)) && (op == "read" || op == "write") {
			bytes += b.Value
		}
	}
	return bytes
}
