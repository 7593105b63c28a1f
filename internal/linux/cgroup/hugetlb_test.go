package cgroup

import (
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// huge is the environment variable that makes the test binary a process that
// maps so many bytes in huge pages and touches them.
const huge = "LADE_TEST_HUGE"

func mapHuge(size string) {
	n, err := strconv.Atoi(size)
	if err == nil {
		var b []byte
		if b, err = unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_HUGETLB); err == nil {
			b[n-1] = 1
		}
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

// TestHugetlb: one huge page can be had with a limit of one, two cannot, though
// the machine has them.
func TestHugetlb(t *testing.T) {
	h := detect(t)
	const pool = "/sys/kernel/mm/hugepages/hugepages-2048kB"
	read := func(file string) int {
		b, err := os.ReadFile(path.Join(pool, file))
		if err != nil {
			t.Skipf("this machine has no huge pages of 2 MB: %v", err)
		}
		n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
		return n
	}
	had := read("nr_hugepages")
	m, ok := h.at["hugetlb"]
	if !ok {
		t.Skip("the kernel does not limit huge pages")
	}
	if m.v2 && len(h.v1) > 0 {
		// Create enables it at the root of a hybrid host; others did before.
		before, err := m.read("", "cgroup.subtree_control")
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(before, "hugetlb") {
			t.Cleanup(func() { _ = m.write("", "cgroup.subtree_control", "-hugetlb") }) // runs after the group is gone
		}
	}
	set := func(n int) {
		if err := os.WriteFile(path.Join(pool, "nr_hugepages"), []byte(strconv.Itoa(n)), 0); err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(func() { set(had) })
	set(had + 3)
	if free := read("free_hugepages"); free < 3 {
		t.Skipf("%d huge pages are free: memory is too fragmented", free)
	}
	const page = 2 << 20
	g := create(t, h, &specs.LinuxResources{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: page}}})
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		pages int
		ok    bool
	}{{1, true}, {2, false}, {1, true}} {
		out, err := output(t, g, fmt.Sprintf("%s=%d exec %s", huge, tc.pages*page, exe))
		if (err == nil) != tc.ok || !tc.ok && !strings.Contains(out, "cannot allocate memory") {
			t.Errorf("%d pages: %q, %v", tc.pages, out, err)
		}
	}
	if err := g.Update(&specs.LinuxResources{HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB", Limit: 3 * page}}}); err != nil {
		t.Fatal(err)
	}
	if out, err := output(t, g, fmt.Sprintf("%s=%d exec %s", huge, 2*page, exe)); err != nil {
		t.Errorf("after the limit was raised: %q, %v", out, err)
	}
	if s, err := g.Stats(); err != nil || s.Hugetlb["2MB"].FailCount == 0 && len(h.v1) == 0 {
		t.Errorf("%+v, %v", s.Hugetlb, err)
	}
}
