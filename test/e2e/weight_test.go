package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lade/test/harness"
)

// weight: of two containers that want more of a disk than it has, the heavier one
// gets more, and the other one as soon as they are told so. Only the scheduler
// bfq knows weights.
func (g groups) weight() {
	dev, number := g.loop()
	queue := filepath.Join("/sys/block", filepath.Base(dev), "queue")
	if err := os.WriteFile(filepath.Join(queue, "scheduler"), []byte("bfq"), 0); err != nil {
		g.t.Skipf("this kernel has no scheduler bfq: %v", err)
	}
	// Who wrote little is not to be favoured for it.
	if err := os.WriteFile(filepath.Join(queue, "iosched/low_latency"), []byte("0"), 0); err != nil {
		g.t.Fatal(err)
	}
	const read = "for i in 1 2 3 4; do (while :; do dd if=/dev/disk of=/dev/null iflag=direct bs=1M; done) 2>/dev/null & done; wait"
	for _, name := range []string{"first", "second"} {
		g.start(name, "--device", dev+":/dev/disk", "--blkio-weight", "100", harness.Image, "sh", "-c", read)
	}
	for _, heavy := range []string{"first", "second"} {
		for _, name := range []string{"first", "second"} {
			weight := "10"
			if name == heavy {
				weight = "1000"
			}
			g.Run("update", "--blkio-weight", weight, name)
		}
		g.soon(func() error {
			began := map[string]uint64{"first": g.transferred("first", number), "second": g.transferred("second", number)}
			time.Sleep(500 * time.Millisecond)
			got := map[string]uint64{}
			for name, n := range began {
				got[name] = g.transferred(name, number) - n
			}
			if light := got["first"] + got["second"] - got[heavy]; got[heavy] == 0 || got[heavy]*2 < light*3 {
				return fmt.Errorf("%s has a hundred times the weight, and reads %d bytes while the other reads %d", heavy, got[heavy], light)
			}
			return nil
		})
	}
}

// transferred is how many bytes a container has read from a device and written to
// it.
func (g groups) transferred(container string, number uint64) (bytes uint64) {
	g.t.Helper()
	for _, e := range g.stats(container).BlkioStats.IoServiceBytesRecursive {
		if op := strings.ToLower(e.Op); e.Major == uint64(unix.Major(number)) && e.Minor == uint64(unix.Minor(number)) && (op == "read" || op == "write") {
			bytes += e.Value
		}
	}
	return bytes
}
