package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// beRealtime asks for real-time scheduling: sched(7).
func beRealtime() int {
	runtime.LockOSThread()
	priority := int32(1)
	if _, _, errno := unix.Syscall(unix.SYS_SCHED_SETSCHEDULER, 0, unix.SCHED_FIFO, uintptr(unsafe.Pointer(&priority))); errno != 0 {
		fmt.Println(errno)
		return 1
	}
	return 0
}

const hugePage = 2 << 20

// mapHuge has n huge pages. The kernel ends it by SIGBUS when it may not.
func mapHuge(n int) int {
	b, err := unix.Mmap(-1, 0, n*hugePage, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_HUGETLB)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	for i := range n {
		b[i*hugePage] = 1
	}
	fmt.Println("mapped")
	return 0
}

// hugePages: with a limit of one a container has one, and not two, though the
// machine has them.
func (g groups) hugePages() {
	const pool = "/sys/kernel/mm/hugepages/hugepages-2048kB"
	number := func(file string) int {
		raw, err := os.ReadFile(filepath.Join(pool, file))
		if err != nil {
			g.t.Fatal(err)
		}
		n, _ := strconv.Atoi(strings.TrimSpace(string(raw)))
		return n
	}
	limit := []string{"--cgroup-conf", "hugetlb.2MB.max=" + strconv.Itoa(hugePage)}
	if _, err := os.Stat(pool); err != nil {
		g.t.Logf("this machine has no huge pages of 2 MB: %v", err)
		return
	}
	set := func(n int) {
		if err := os.WriteFile(filepath.Join(pool, "nr_hugepages"), []byte(strconv.Itoa(n)), 0); err != nil {
			g.t.Errorf("set the number of huge pages: %v", err)
		}
	}
	had := number("nr_hugepages")
	g.t.Cleanup(func() { set(had) })
	set(had + 2)
	if free := number("free_hugepages"); free < 2 {
		g.t.Logf("%d huge pages are free: memory is too fragmented", free)
		return
	}
	one, stderr, code := g.try(probeFlags(g.t, "huge-page", limit...)...)
	if code == 125 && (strings.Contains(stderr, "version 1") || strings.Contains(stderr, "no control group controller")) {
		g.t.Logf("the kernel limits no huge pages in version 2: %s", stderr)
		return
	}
	if code != 0 || one != "mapped\n" {
		g.t.Errorf("one page with a limit of one: %d %q %s", code, one, stderr)
	}
	if out, stderr, code := g.try(probeFlags(g.t, "huge-pages", limit...)...); code == 0 || out != "" {
		g.t.Errorf("two pages with a limit of one: %d %q %s", code, out, stderr)
	}
	if out, stderr, code := g.try(probeFlags(g.t, "huge-pages")...); code != 0 || out != "mapped\n" {
		g.t.Errorf("two pages without a limit: %d %q %s", code, out, stderr)
	}
}
