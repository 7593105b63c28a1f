package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"lade/test/harness"
)

// probing names what the test binary, which is static, does when it is the
// program of a container.
const probing = "LADE_E2E_PROBE"

func TestMain(m *testing.M) {
	if what := os.Getenv(probing); what != "" {
		os.Exit(probe(what))
	}
	os.Exit(m.Run())
}

// probeFlags make the test binary a container's program: flags of run, the
// image, the command.
func probeFlags(t *testing.T, what string, flags ...string) []string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out := append([]string{"-e", probing + "=" + what, "-v", self + ":/probe:ro"}, flags...)
	return append(out, "lade/hello", "/probe")
}

// clients runs a test through either client, with an engine each; run returns
// what a command line printed.
func clients(t *testing.T, f func(t *testing.T, e *harness.Engine, run func(args ...string) string)) {
	t.Helper()
	for _, client := range []string{"lade", "docker"} {
		t.Run(client, func(t *testing.T) {
			e := harness.Start(t)
			f(t, e, func(args ...string) string {
				t.Helper()
				cmd := e.Command(client, args...)
				var stdout, stderr strings.Builder
				cmd.Stdout, cmd.Stderr = &stdout, &stderr
				if err := cmd.Run(); err != nil {
					t.Fatalf("%s %s: %v\n%s%s", client, strings.Join(args, " "), err, &stdout, &stderr)
				}
				return strings.TrimSpace(stdout.String())
			})
		})
	}
}

func probe(what string) int {
	switch what {
	case "make-ipc":
		return makeIPC()
	case "see-ipc":
		return seeIPC()
	case "realtime":
		return beRealtime()
	case "huge-page", "huge-pages":
		return mapHuge(len(what) - len("huge-page") + 1)
	}
	fmt.Println("nothing to do for", what)
	return 2
}

// ipcKey is the key of the System V objects that the tests make.
const ipcKey = 0x1ade

// objects are one of each kind of interprocess communication: how to open it
// with a flag for creation, or fail.
var objects = []struct {
	name string
	open func(create bool) unix.Errno
}{
	{"shm", func(c bool) unix.Errno { return call(unix.SYS_SHMGET, ipcKey, 4096, creation(c, unix.IPC_CREAT|0o600)) }},
	{"msg", func(c bool) unix.Errno { return call(unix.SYS_MSGGET, ipcKey, creation(c, unix.IPC_CREAT|0o600), 0) }},
	{"sem", func(c bool) unix.Errno { return call(unix.SYS_SEMGET, ipcKey, 1, creation(c, unix.IPC_CREAT|0o600)) }},
	{"mqueue", func(c bool) unix.Errno {
		name, _ := unix.BytePtrFromString("lade-e2e")
		_, _, errno := unix.Syscall6(unix.SYS_MQ_OPEN, uintptr(unsafe.Pointer(name)), creation(c, unix.O_CREAT)|unix.O_RDWR, 0o600, 0, 0, 0)
		return errno
	}},
	{"posix-shm", func(c bool) unix.Errno {
		_, err := unix.Open("/dev/shm/lade-e2e", int(creation(c, unix.O_CREAT))|unix.O_RDWR, 0o600)
		errno, _ := err.(unix.Errno)
		return errno
	}},
}

func creation(yes bool, flags uintptr) uintptr {
	if yes {
		return flags
	}
	return 0
}

func call(nr, a, b, c uintptr) unix.Errno {
	_, _, errno := unix.Syscall(nr, a, b, c)
	return errno
}

// makeIPC makes every object and stays.
func makeIPC() int {
	for _, o := range objects {
		if errno := o.open(true); errno != 0 {
			fmt.Println(o.name, errno)
			return 1
		}
	}
	fmt.Println("made")
	time.Sleep(time.Hour)
	return 0
}

// seeIPC says which objects are there, and how many lines /proc/sysvipc has.
func seeIPC() int {
	var there []string
	for _, o := range objects {
		if o.open(false) == 0 {
			there = append(there, o.name)
		}
	}
	lines := 0
	for _, kind := range []string{"shm", "msg", "sem"} {
		raw, err := os.ReadFile("/proc/sysvipc/" + kind)
		if err != nil {
			fmt.Println(err)
			return 1
		}
		lines += strings.Count(string(raw), fmt.Sprint(ipcKey))
	}
	fmt.Println(len(there), lines, strings.Join(there, " "))
	return 0
}
