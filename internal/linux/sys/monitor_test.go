package sys

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/need"
)

func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "calm" {
		CalmMonitor(time.Millisecond)
		os.Stdout.WriteString(sleepers())
		return
	}
	os.Exit(m.Run())
}

// sleepers returns the slacks of the threads that sleep in nanosleep(2) while
// this one is busy: of the monitor.
func sleepers() string {
	found := map[string]bool{}
	for end := time.Now().Add(100 * time.Millisecond); time.Now().Before(end); {
		tasks, _ := filepath.Glob("/proc/self/task/*")
		for _, dir := range tasks {
			call, err := os.ReadFile(filepath.Join(dir, "syscall"))
			if nr, _, _ := strings.Cut(string(call), " "); err != nil || nr != strconv.Itoa(unix.SYS_NANOSLEEP) {
				continue
			}
			slack, _ := os.ReadFile("/proc/" + filepath.Base(dir) + "/timerslack_ns")
			found[strings.TrimSpace(string(slack))] = true
		}
	}
	var all []string
	for s := range found {
		all = append(all, s)
	}
	return strings.Join(all, " ")
}

func TestCalmMonitor(t *testing.T) {
	need.Root(t)
	out, err := exec.CommandContext(t.Context(), "/proc/self/exe", "calm").Output()
	if err != nil {
		t.Fatal(err)
	}
	if string(out) != "1000000" {
		t.Errorf("slack of the monitor: %s ns", out)
	}
}
