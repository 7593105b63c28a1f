package cgroup

import (
	"fmt"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// fifo is the environment variable that makes the test binary a process that
// asks for SCHED_FIFO and computes for a second; it prints the milliseconds of
// processor time that it got.
const fifo = "LADE_TEST_FIFO"

func beFIFO() {
	runtime.LockOSThread()
	priority := int32(1)
	if _, _, errno := unix.Syscall(unix.SYS_SCHED_SETSCHEDULER, 0, unix.SCHED_FIFO, uintptr(unsafe.Pointer(&priority))); errno != 0 {
		fmt.Println(errno)
		os.Exit(1)
	}
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
	}
	var used unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &used)
	fmt.Println(used.Nano() / 1e6)
	os.Exit(0)
}

// TestRealtime: without a limit a group has no real-time scheduling; with one
// it has that much, also below parents that had none.
func TestRealtime(t *testing.T) {
	h := detect(t)
	if !h.Features().CPURealtime {
		t.Skip("the kernel does not group real-time scheduling")
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("%s=1 exec %s", fifo, exe)
	g := create(t, h, nil)
	if out, err := output(t, g, script); err == nil || !strings.Contains(out, "operation not permitted") {
		t.Errorf("without a limit: %q, %v", out, err)
	}
	limit := &specs.LinuxResources{CPU: &specs.LinuxCPU{RealtimePeriod: new(uint64(100000)), RealtimeRuntime: new(int64(5000))}}
	if err := g.Update(limit); err != nil {
		t.Fatal(err)
	}
	out, err := output(t, g, script)
	if ms, e := strconv.Atoi(strings.TrimSpace(out)); err != nil || e != nil || ms > 200 {
		t.Errorf("with 50 ms of a second: %q ms, %v", out, err)
	}
	// A second group has its own, and the parents have both.
	second, err := h.Create(path.Join(parent, "realtime-too"), limit)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := output(t, second, script); err != nil {
		t.Errorf("the second group: %q, %v", out, err)
	}
	if err := second.Delete(t.Context()); err != nil {
		t.Error(err)
	}
	// What it had can be had again at once.
	for range 20 {
		third, err := h.Create(path.Join(parent, "realtime-third"), limit)
		if err == nil {
			err = third.Delete(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.Create(path.Join(parent, "realtime-all"), &specs.LinuxResources{CPU: &specs.LinuxCPU{RealtimeRuntime: new(int64(999999))}}); err == nil {
		t.Error("more than the machine has is accepted")
	}
}
