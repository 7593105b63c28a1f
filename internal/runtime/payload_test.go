package runtime

import (
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// report is what a process sees of itself and its container.
type report struct {
	Pid, Sid, Pgid int
	Hostname, Cwd  string
	Args, Env      []string
	FDs            []string
	Status         map[string]string // of /proc/self/status
	Namespaces     map[string]string
	Mounts         map[string]mountLine
	Links          []string
	Cgroups        []string
	Limits         map[string]string
	OOMScore       string
	Rows, Cols     uint16
	CTTY           bool
	Fg             int
}

type mountLine struct {
	Type, Root string
	Options    []string
}

func inContainer(args []string) int {
	if len(args) == 0 {
		return 0
	}
	switch args[0] {
	case "report":
		return writeReport()
	case "exit":
		n, _ := strconv.Atoi(args[1])
		return n
	case "kill":
		n, _ := strconv.Atoi(args[1])
		// A process 1 is not ended by its own signals: a child is.
		_ = unix.Kill(os.Getpid(), unix.Signal(n))
		time.Sleep(10 * time.Second)
		return 1
	case "sleep":
		fmt.Println("ready")
		time.Sleep(time.Minute)
		return 0
	case "try":
		return tryAll(args[1:])
	case "signals":
		ch := make(chan os.Signal, 1)
		signal.Notify(ch, syscall.SIGTERM)
		fmt.Println("ready")
		<-ch
		return 7
	case "echo":
		b := make([]byte, 100)
		n, _ := os.Stdin.Read(b)
		fmt.Printf("got %s", b[:n])
		return 0
	}
	return 99
}

func writeReport() int {
	r := report{Pid: os.Getpid(), Args: os.Args, Env: os.Environ(), Namespaces: map[string]string{}, Mounts: map[string]mountLine{}, Status: map[string]string{}}
	r.Sid, _ = unix.Getsid(0)
	r.Pgid, _ = unix.Getpgid(0)
	r.Hostname, _ = os.Hostname()
	r.Cwd, _ = os.Getwd()
	for _, n := range []string{"mnt", "net", "uts", "pid", "ipc", "cgroup", "user"} {
		r.Namespaces[n], _ = os.Readlink("/proc/self/ns/" + n)
	}
	fds, _ := os.ReadDir("/proc/self/fd")
	for _, e := range fds {
		// The Go runtime's own: epoll, its look at the processor limit, ReadDir.
		to, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err == nil && !strings.Contains(to, "eventpoll") && !strings.Contains(to, "eventfd") && !strings.HasSuffix(to, "/fd") && !strings.HasPrefix(to, "/sys/fs/cgroup/") {
			r.FDs = append(r.FDs, e.Name())
		}
	}
	slices.Sort(r.FDs)
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if k, v, ok := strings.Cut(line, ":"); ok {
			r.Status[k] = strings.TrimSpace(v)
		}
	}
	info, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(info)) {
		before, after, _ := strings.Cut(line, " - ")
		f, g := strings.Fields(before), strings.Fields(after)
		r.Mounts[f[4]] = mountLine{g[0], f[3], append(strings.Split(f[5], ","), f[6:]...)}
	}
	links, _ := os.ReadDir("/sys/class/net")
	for _, l := range links {
		flags, _ := os.ReadFile("/sys/class/net/" + l.Name() + "/flags")
		n, _ := strconv.ParseInt(strings.TrimSpace(string(flags)), 0, 64)
		state := "down"
		if n&unix.IFF_UP != 0 {
			state = "up"
		}
		if l.Name() == "lo" || !strings.Contains(l.Name(), "0") { // fallback tunnels of the kernel
			r.Links = append(r.Links, l.Name()+" "+state)
		}
	}
	groups, _ := os.ReadFile("/proc/self/cgroup")
	mounted, _ := filepath.Glob("/sys/fs/cgroup/*/tasks")
	unified, _ := filepath.Glob("/sys/fs/cgroup/cgroup.procs")
	for line := range strings.Lines(string(groups)) {
		line = strings.TrimSpace(line)
		if len(mounted)+len(unified) > 0 && !strings.Contains(line, "name=systemd") {
			r.Cgroups = append(r.Cgroups, line)
		}
	}
	sort.Strings(r.Cgroups)
	r.Limits = map[string]string{}
	limits, _ := os.ReadFile("/proc/self/limits")
	for line := range strings.Lines(string(limits)) {
		if len(line) > 26 {
			r.Limits[strings.TrimSpace(line[:26])] = strings.Join(strings.Fields(line[26:]), " ")
		}
	}
	score, _ := os.ReadFile("/proc/self/oom_score_adj")
	r.OOMScore = strings.TrimSpace(string(score))
	if w, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ); err == nil {
		r.Rows, r.Cols = w.Row, w.Col
		tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
		r.CTTY = err == nil
		if err == nil {
			tty.Close()
		}
		r.Fg, _ = unix.IoctlGetInt(0, unix.TIOCGPGRP)
	}
	if err := json.NewEncoder(os.Stdout).Encode(&r); err != nil {
		return 1
	}
	return 0
}

// addAddress puts lo down and up, which needs CAP_NET_ADMIN in the owner of the
// network namespace.
func addAddress(link string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq(link)
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
}

// tryAll does one thing after the other and prints how each ended.
func tryAll(what []string) int {
	for _, w := range what {
		verb, arg, _ := strings.Cut(w, "=")
		var err error
		say := "ok"
		switch verb {
		case "read":
			var b []byte
			if b, err = os.ReadFile(arg); len(b) > 200 {
				b = b[:200]
			}
			say = string(b)
		case "list":
			var e []os.DirEntry
			e, err = os.ReadDir(arg)
			say = strconv.Itoa(len(e))
		case "write":
			err = os.WriteFile(arg, []byte("x"), 0o644)
		case "append":
			var f *os.File
			if f, err = os.OpenFile(arg, os.O_WRONLY, 0); err == nil {
				_, err = f.Write([]byte("x"))
				f.Close()
			}
		case "mode":
			var st os.FileInfo
			if st, err = os.Lstat(arg); err == nil {
				say = st.Mode().String()
			}
		case "stat":
			var st unix.Stat_t
			if err = unix.Stat(arg, &st); err == nil {
				say = fmt.Sprintf("%o %d:%d %d:%d", st.Mode, unix.Major(st.Rdev), unix.Minor(st.Rdev), st.Uid, st.Gid)
			}
		case "link":
			say, err = os.Readlink(arg)
		case "mkdir":
			err = os.Mkdir(arg, 0o755)
		case "rename":
			err = os.Rename(arg, arg+".new")
		case "getpid":
			say = strconv.Itoa(os.Getpid())
		case "chown":
			err = os.Chown(arg, 33, 34)
		case "mknod":
			err = unix.Mknod(arg, unix.S_IFBLK|0o600, int(unix.Mkdev(8, 0)))
		case "tmpfs":
			err = unix.Mount("tmpfs", arg, "tmpfs", 0, "")
		case "remount":
			err = unix.Mount("", arg, "", unix.MS_REMOUNT|unix.MS_BIND, "")
		case "kill":
			n, _ := strconv.Atoi(arg)
			err = unix.Kill(n, 0)
		case "setns":
			var fd int
			if fd, err = unix.Open(arg, unix.O_RDONLY, 0); err == nil {
				err = unix.Setns(fd, 0)
			}
		case "address":
			err = addAddress(arg)
		case "raw":
			var fd int
			if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP); err == nil {
				unix.Close(fd)
			}
		case "clock":
			var ts unix.Timespec
			id := map[string]int32{"monotonic": unix.CLOCK_MONOTONIC, "boottime": unix.CLOCK_BOOTTIME}[arg]
			if err = unix.ClockGettime(id, &ts); err == nil {
				say = strconv.FormatInt(ts.Sec, 10)
			}
		case "wd":
			say, err = os.Getwd()
		}
		if err != nil {
			say = "error " + err.Error()
		}
		fmt.Printf("%s: %s\n", w, strings.TrimSpace(say))
	}
	return 0
}
