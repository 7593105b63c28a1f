package bench

import (
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"lade/internal/need"
	"lade/test/harness"
)

// TestThousand measures what 1,000 idle containers cost, and whether the last
// hundred are started, stopped and removed as fast as the first.
func TestThousand(t *testing.T) {
	if os.Getenv("LADE_BENCH") == "" {
		t.Skip("make bench runs it")
	}
	need.Root(t)
	const n = 1000
	first, last := kernelGrowth(t, n)
	note(t, "a namespace as the port of a bridge, by hand", first.processor.Seconds()*10, "ms")
	note(t, "  the last hundred to the first", float64(last.processor)/float64(first.processor), "x")
	kernel := (last.processor - first.processor).Seconds() * 1000 // for a hundred, in ms
	note(t, "  that is more, for each", kernel/100, "ms")
	e := harness.Start(t, "--bip", "198.18.0.1/20") // room for all
	e.Run("import", rootfs(t), image)
	each := func(what string, args func(i int) []string) {
		t.Helper()
		var took [n / 100]time.Duration
		var used [n / 100]float64
		for part := range took {
			sofar := cpu(t, e.Supervisor(), e.Pid())
			begin := time.Now()
			var clients sync.WaitGroup
			for client := range 8 {
				clients.Go(func() {
					for i := part*100 + client; i < (part+1)*100; i += 8 {
						if _, stderr, code := e.Try(args(i)...); code != 0 {
							t.Errorf("%s of container %d: exit code %d, %s", what, i, code, stderr)
						}
					}
				})
			}
			clients.Wait()
			took[part] = time.Since(begin)
			used[part] = cpu(t, e.Supervisor(), e.Pid()) - sofar
		}
		note(t, what+" of the first hundred", took[0].Seconds()*10, "ms")
		note(t, "  processor time of both daemons", used[0]/100, "ms")
		note(t, "  the last hundred to the first", used[len(used)-1]/used[0], "x")
		if what == "run -d" {
			note(t, "  … without what the kernel takes more by hand", (used[len(used)-1]-kernel)/used[0], "x")
		}
		limit(t, what+": the last hundred to the first", took[len(took)-1].Seconds()/took[0].Seconds(), 1.2, "x")
	}
	name := func(i int) string { return fmt.Sprint("c", i) }
	each("run -d", func(i int) []string {
		return []string{"run", "-d", "--name", name(i), image, "/bin/busybox", "sleep", "100000"}
	})
	time.Sleep(20 * time.Second) // both give memory back
	sup := e.Supervisor()
	limit(t, "supervisor: PSS with 1,000 idle containers", pss(t, sup)/1024, 10, "MB")
	limit(t, "laded: PSS with 1,000 idle containers", pss(t, e.Pid())/1024, 80, "MB")
	used := cpu(t, sup, e.Pid())
	const seconds = 30
	time.Sleep(seconds * time.Second)
	limit(t, "processor time of both with 1,000 idle containers", (cpu(t, sup, e.Pid())-used)/seconds/10, 0.5, "%")
	begin := time.Now()
	e.Kill()
	e.Launch()
	limit(t, "laded: exec to ready with 1,000 containers", float64(time.Since(begin).Milliseconds()), 1000, "ms")
	each("stop", func(i int) []string { return []string{"stop", "-t", "0", name(i)} })
	each("rm", func(i int) []string { return []string{"rm", name(i)} })
}
