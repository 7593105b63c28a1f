package top

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"lade/internal/errdefs"
	"lade/internal/need"
)

// TestProcesses compares what is read from /proc with what ps(1) says.
func TestProcesses(t *testing.T) {
	need.Program(t, "ps", "procps")
	child := exec.Command("sleep", "1000")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	defer child.Process.Kill()
	pids := []int{child.Process.Pid, 1 << 22} // the second is none
	got, err := processes(pids)
	if err != nil || len(got.Processes) != 1 {
		t.Fatalf("one process of two: %+v, %v", got, err)
	}
	want, err := hostPS(t.Context(), pids, []string{"-ef"})
	if err != nil || len(want.Processes) != 1 {
		t.Fatalf("ps of one process of two: %+v, %v", want, err)
	}
	if a, b := strings.Join(got.Titles, " "), strings.Join(want.Titles, " "); a != b {
		t.Errorf("titles %s, ps has %s", a, b)
	}
	for i, title := range got.Titles {
		if a, b := got.Processes[0][i], want.Processes[0][i]; a != b && title != "UID" && title != "TIME" && title != "C" {
			t.Errorf("%s: %s, ps has %s", title, a, b)
		}
	}
	if got.Processes[0][2] != strconv.Itoa(os.Getpid()) || got.Processes[0][7] != "sleep 1000" {
		t.Errorf("the process: %v", got.Processes[0])
	}
}

func TestHostPS(t *testing.T) {
	need.Program(t, "ps", "procps")
	got, err := hostPS(t.Context(), []int{os.Getpid()}, []string{"-eo pid,args"})
	if err != nil || len(got.Processes) != 1 || len(got.Processes[0]) != 2 || got.Processes[0][0] != strconv.Itoa(os.Getpid()) {
		t.Errorf("ps with columns: %+v, %v", got, err)
	}
	for _, args := range []string{"-eo args", "--no-such-option"} {
		if _, err := hostPS(t.Context(), nil, []string{args}); errdefs.KindOf(err) != errdefs.Invalid {
			t.Errorf("%s: %v", args, err)
		}
	}
}

func TestTTYName(t *testing.T) {
	for dev, want := range map[int]string{0: "?", 136<<8 | 3: "pts/3", 137<<8 | 1: "pts/257", 4<<8 | 1: "tty1", 4<<8 | 64: "ttyS0", 204<<8 | 7: "204:7"} {
		if got := ttyName(dev); got != want {
			t.Errorf("%#x: %s, want %s", dev, got, want)
		}
	}
}
