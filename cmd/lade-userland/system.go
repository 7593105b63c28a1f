package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// pause waits for so many milliseconds.
func pause(ms int) { <-time.After(time.Duration(ms) * time.Millisecond) }

// sleep waits for a number of seconds, or with a suffix s, m, h, d; for ever
// for "infinity".
func sleep(args []string) int {
	var total time.Duration
	for _, a := range args {
		if a == "infinity" || a == "inf" {
			select {}
		}
		unit := time.Second
		num := a
		for suffix, u := range map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour} {
			if v, ok := strings.CutSuffix(a, suffix); ok {
				num, unit = v, u
			}
		}
		f, err := strconv.ParseFloat(num, 64)
		if err != nil || f < 0 {
			return fail("sleep", fmt.Errorf("invalid number '%s'", a))
		}
		total += time.Duration(f * float64(unit))
	}
	if len(args) == 0 {
		return fail("sleep", errors.New("missing operand"))
	}
	<-time.After(total)
	return 0
}

// date prints the time; -u in UTC, +FORMAT as strftime(3).
func date(args []string) int {
	set, rest, err := options(args, "uIR")
	if err != nil {
		return fail("date", err)
	}
	now := time.Now()
	if _, ok := set['u']; ok {
		now = now.UTC()
	}
	layout := "%a %b %e %H:%M:%S %Z %Y"
	if len(rest) > 0 && strings.HasPrefix(rest[0], "+") {
		layout = rest[0][1:]
	}
	if _, ok := set['I']; ok {
		layout = "%Y-%m-%d"
	}
	parts := map[byte]string{'a': "Mon", 'A': "Monday", 'b': "Jan", 'B': "January", 'd': "02", 'e': "_2", 'H': "15", 'M': "04", 'S': "05",
		'Y': "2006", 'y': "06", 'm': "01", 'Z': "MST", 'z': "-0700", 'F': "2006-01-02", 'T': "15:04:05", 'j': "002", 'N': "000000000", 'p': "PM", 'I': "03"}
	var b strings.Builder
	for i := 0; i < len(layout); i++ {
		if layout[i] != '%' || i+1 == len(layout) {
			b.WriteByte(layout[i])
			continue
		}
		i++
		switch c := layout[i]; {
		case c == 's':
			b.WriteString(strconv.FormatInt(now.Unix(), 10))
		case c == 'N':
			fmt.Fprintf(&b, "%09d", now.Nanosecond())
		case parts[c] != "":
			b.WriteString(now.Format(parts[c]))
		default:
			b.WriteByte(c)
		}
	}
	return written("date", b.String()+"\n")
}

// env runs a command with a changed environment, or prints it.
func env(args []string) int {
	var drop []string
	vars := os.Environ()
	for len(args) > 0 {
		switch a := args[0]; {
		case a == "-i" || a == "-":
			vars = nil
			args = args[1:]
			continue
		case a == "-u" && len(args) > 1:
			drop = append(drop, args[1])
			args = args[2:]
			continue
		case strings.Contains(a, "="):
			name, _, _ := strings.Cut(a, "=")
			vars = slices.DeleteFunc(vars, func(v string) bool { return strings.HasPrefix(v, name+"=") })
			vars = append(vars, a)
			args = args[1:]
			continue
		}
		break
	}
	vars = slices.DeleteFunc(vars, func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains(drop, name)
	})
	if len(args) == 0 {
		if len(vars) == 0 {
			return 0
		}
		return written("env", strings.Join(vars, "\n")+"\n")
	}
	path, err := find1(args[0])
	if err != nil {
		fail("env", err)
		return 127
	}
	fail("env", fmt.Errorf("%s: %w", args[0], syscall.Exec(path, args, vars)))
	return 126
}

func printenv(args []string) int {
	if len(args) == 0 {
		return written("printenv", strings.Join(os.Environ(), "\n")+"\n")
	}
	code := 0
	for _, a := range args {
		v, ok := os.LookupEnv(a)
		if !ok {
			code = 1
			continue
		}
		fmt.Println(v)
	}
	return code
}

// find1 looks a command up in PATH.
func find1(name string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for dir := range strings.SplitSeq(os.Getenv("PATH"), ":") {
		p := filepath.Join(dir, name)
		if fi, err := os.Stat(p); err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0 {
			return p, nil
		}
	}
	return "", fmt.Errorf("%s: not found", name)
}

func which(args []string) int {
	code := 0
	for _, a := range args {
		p, err := find1(a)
		if err != nil {
			code = 1
			continue
		}
		fmt.Println(p)
	}
	return code
}

func hostname(args []string) int {
	set, rest, err := options(args, "isfd")
	if err != nil {
		return fail("hostname", err)
	}
	if len(rest) > 0 {
		if err := unix.Sethostname([]byte(rest[0])); err != nil {
			return fail("hostname", err)
		}
		return 0
	}
	if _, ok := set['i']; ok {
		return written("hostname", strings.Join(addresses(), " ")+"\n")
	}
	name, err := os.Hostname()
	if err != nil {
		return fail("hostname", err)
	}
	return written("hostname", name+"\n")
}

// addresses returns the addresses of the interfaces, without loopback.
func addresses() (out []string) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() && !n.IP.IsLinkLocalUnicast() {
			out = append(out, n.IP.String())
		}
	}
	return out
}

func id(args []string) int {
	set, rest, err := options(args, "ugGn")
	if err != nil {
		return fail("id", err)
	}
	uid, gid := os.Geteuid(), os.Getegid()
	groups, err := os.Getgroups()
	if err != nil {
		return fail("id", err)
	}
	if len(rest) > 0 {
		if uid, err = lookupID("/etc/passwd", rest[0]); err != nil {
			return fail("id", err)
		}
		groups = nil
		for _, f := range database("/etc/passwd") {
			if len(f) > 3 && f[2] == strconv.Itoa(uid) {
				gid, _ = strconv.Atoi(f[3])
			}
		}
	}
	if !slices.Contains(groups, gid) {
		groups = append([]int{gid}, groups...)
	}
	_, names := set['n']
	show := func(file string, n int) string {
		if names {
			return lookupName(file, n)
		}
		return strconv.Itoa(n)
	}
	full := func(file string, n int) string {
		if name := lookupName(file, n); name != strconv.Itoa(n) {
			return fmt.Sprintf("%d(%s)", n, name)
		}
		return strconv.Itoa(n)
	}
	_, u := set['u']
	_, g := set['g']
	_, all := set['G']
	switch {
	case u:
		return written("id", show("/etc/passwd", uid)+"\n")
	case g:
		return written("id", show("/etc/group", gid)+"\n")
	}
	list := make([]string, len(groups))
	for i, n := range groups {
		if list[i] = full("/etc/group", n); all {
			list[i] = show("/etc/group", n)
		}
	}
	if all {
		return written("id", strings.Join(list, " ")+"\n")
	}
	return written("id", fmt.Sprintf("uid=%s gid=%s groups=%s\n", full("/etc/passwd", uid), full("/etc/group", gid), strings.Join(list, ",")))
}

func whoami([]string) int {
	return written("whoami", lookupName("/etc/passwd", os.Geteuid())+"\n")
}

// kill sends a signal: kill [-s NAME | -NAME | -l] PID...
func kill(args []string) int {
	sig := syscall.SIGTERM
	if len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' {
		name := args[0][1:]
		args = args[1:]
		if name == "l" {
			for n := 1; n < 32; n++ {
				fmt.Printf("%2d) %s\n", n, strings.TrimPrefix(unix.SignalName(syscall.Signal(n)), "SIG"))
			}
			return 0
		}
		if name == "s" && len(args) > 0 {
			name, args = args[0], args[1:]
		}
		n, ok := signalNumber(name)
		if !ok && name != "0" {
			return fail("kill", fmt.Errorf("bad signal name '%s'", name))
		}
		sig = n
	}
	code := 0
	for _, a := range args {
		pid, err := strconv.Atoi(a)
		if err != nil {
			code = fail("kill", fmt.Errorf("invalid number '%s'", a))
			continue
		}
		if err := syscall.Kill(pid, sig); err != nil {
			code = fail("kill", fmt.Errorf("can't kill pid %d: %w", pid, err))
		}
	}
	return code
}

// mount lists the mounts, or mounts: mount [-t TYPE] [-o OPTIONS] SOURCE TARGET.
func mount(args []string) int {
	set, rest, err := options(args, "t:o:rB")
	if err != nil {
		return fail("mount", err)
	}
	if len(rest) == 0 {
		for _, m := range mounts() {
			fmt.Printf("%s on %s type %s (%s)\n", m[0], m[1], m[2], m[3])
		}
		return 0
	}
	if len(rest) != 2 {
		return fail("mount", errors.New("usage: mount [-t TYPE] [-o OPTIONS] SOURCE TARGET"))
	}
	var flags uintptr
	var data []string
	known := map[string]uintptr{"ro": unix.MS_RDONLY, "bind": unix.MS_BIND, "rbind": unix.MS_BIND | unix.MS_REC, "remount": unix.MS_REMOUNT,
		"nosuid": unix.MS_NOSUID, "nodev": unix.MS_NODEV, "noexec": unix.MS_NOEXEC, "rw": 0, "private": unix.MS_PRIVATE, "shared": unix.MS_SHARED, "slave": unix.MS_SLAVE}
	for o := range strings.SplitSeq(set['o'], ",") {
		if f, ok := known[o]; ok {
			flags |= f
		} else if o != "" {
			data = append(data, o)
		}
	}
	if _, ok := set['r']; ok {
		flags |= unix.MS_RDONLY
	}
	if err := unix.Mount(rest[0], rest[1], set['t'], flags, strings.Join(data, ",")); err != nil {
		return fail("mount", fmt.Errorf("mounting %s on %s failed: %w", rest[0], rest[1], err))
	}
	return 0
}

func umount(args []string) int {
	set, rest, err := options(args, "lf")
	if err != nil {
		return fail("umount", err)
	}
	flags := 0
	if _, ok := set['l']; ok {
		flags |= unix.MNT_DETACH
	}
	for _, p := range rest {
		if err := unix.Unmount(p, flags); err != nil {
			return fail("umount", fmt.Errorf("can't unmount %s: %w", p, err))
		}
	}
	return 0
}

func nproc([]string) int {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return fail("nproc", err)
	}
	return written("nproc", strconv.Itoa(set.Count())+"\n")
}

// process is a line of ps.
type process struct {
	pid, ppid, uid int
	state, cmd     string
}

func processes() (out []process) {
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, d := range dirs {
		pid, err := strconv.Atoi(d.Name())
		if err != nil {
			continue
		}
		st, err := os.ReadFile("/proc/" + d.Name() + "/stat")
		fi, serr := os.Stat("/proc/" + d.Name())
		if err != nil || serr != nil {
			continue // gone
		}
		text := string(st)
		open, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
		fields := strings.Fields(text[end+1:])
		p := process{pid: pid, state: fields[0], cmd: "[" + text[open+1:end] + "]"}
		p.ppid, _ = strconv.Atoi(fields[1])
		if sys, ok := fi.Sys().(*syscall.Stat_t); ok {
			p.uid = int(sys.Uid)
		}
		if cmd, err := os.ReadFile("/proc/" + d.Name() + "/cmdline"); err == nil && len(cmd) > 0 {
			p.cmd = strings.TrimRight(strings.ReplaceAll(string(cmd), "\x00", " "), " ")
		}
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b process) int { return a.pid - b.pid })
	return out
}

// ps lists all processes; -o takes pid, ppid, user, stat, comm and args.
func ps(args []string) int {
	columns := []string{"pid", "user", "stat", "args"}
	for i, a := range args {
		if a == "-o" && i+1 < len(args) {
			columns = strings.Split(args[i+1], ",")
		} else if strings.HasPrefix(a, "-o") && len(a) > 2 {
			columns = strings.Split(a[2:], ",")
		}
	}
	title := map[string]string{"args": "COMMAND", "cmd": "COMMAND", "comm": "COMMAND"}
	row := func(value func(string) string) {
		for i, c := range columns {
			v := value(c)
			switch {
			case i == len(columns)-1:
				fmt.Println(v)
			case c == "pid" || c == "ppid":
				fmt.Printf("%5s ", v)
			default:
				fmt.Printf("%-8s ", v)
			}
		}
	}
	row(func(c string) string {
		if t, ok := title[c]; ok {
			return t
		}
		return strings.ToUpper(c)
	})
	for _, p := range processes() {
		row(func(c string) string {
			switch c {
			case "pid":
				return strconv.Itoa(p.pid)
			case "ppid":
				return strconv.Itoa(p.ppid)
			case "user":
				return lookupName("/etc/passwd", p.uid)
			case "uid":
				return strconv.Itoa(p.uid)
			case "stat", "state", "s":
				return p.state
			case "comm":
				name, _, _ := strings.Cut(p.cmd, " ")
				return filepath.Base(name)
			case "args", "cmd":
				return p.cmd
			}
			return "-"
		})
	}
	return 0
}

func tty([]string) int {
	if !term.IsTerminal(0) {
		fmt.Println("not a tty")
		return 1
	}
	name, err := os.Readlink("/proc/self/fd/0")
	if err != nil {
		return fail("tty", err)
	}
	return written("tty", name+"\n")
}

func uname(args []string) int {
	set, _, err := options(args, "asnrvmo")
	if err != nil {
		return fail("uname", err)
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return fail("uname", err)
	}
	values := []struct {
		flag  byte
		value string
	}{
		{'s', unix.ByteSliceToString(u.Sysname[:])}, {'n', unix.ByteSliceToString(u.Nodename[:])}, {'r', unix.ByteSliceToString(u.Release[:])},
		{'v', unix.ByteSliceToString(u.Version[:])}, {'m', unix.ByteSliceToString(u.Machine[:])}, {'o', "GNU/Linux"},
	}
	var out []string
	_, all := set['a']
	for _, v := range values {
		if _, ok := set[v.flag]; ok || all || len(set) == 0 && v.flag == 's' {
			out = append(out, v.value)
		}
	}
	return written("uname", strings.Join(out, " ")+"\n")
}

func uptime([]string) int {
	up, err := os.ReadFile("/proc/uptime")
	load, lerr := os.ReadFile("/proc/loadavg")
	if err := errors.Join(err, lerr); err != nil {
		return fail("uptime", err)
	}
	seconds := time.Duration(number(string(up))) * time.Second
	avg := strings.Fields(string(load))
	return written("uptime", fmt.Sprintf(" %s up %s,  load average: %s\n", time.Now().Format("15:04:05"), seconds, strings.Join(avg[:3], ", ")))
}

func free(args []string) int {
	set, _, err := options(args, "bkmgh")
	if err != nil {
		return fail("free", err)
	}
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return fail("free", err)
	}
	kb := map[string]int64{}
	for line := range strings.Lines(string(b)) {
		k, v, _ := strings.Cut(line, ":")
		kb[k] = int64(number(v))
	}
	div := int64(1)
	if _, ok := set['m']; ok {
		div = 1 << 10
	}
	if _, ok := set['g']; ok {
		div = 1 << 20
	}
	fmt.Printf("%-6s %12s %12s %12s %12s\n", "", "total", "used", "free", "available")
	fmt.Printf("%-6s %12d %12d %12d %12d\n", "Mem:", kb["MemTotal"]/div, (kb["MemTotal"]-kb["MemAvailable"])/div, kb["MemFree"]/div, kb["MemAvailable"]/div)
	fmt.Printf("%-6s %12d %12d %12d\n", "Swap:", kb["SwapTotal"]/div, (kb["SwapTotal"]-kb["SwapFree"])/div, kb["SwapFree"]/div)
	return 0
}

// hello shows that a container is one: its own name, processes, address, limits.
func hello([]string) int {
	name, err := os.Hostname()
	if err != nil {
		return fail("hello", err)
	}
	fmt.Printf("Hello from lade! This container is running.\n\n")
	fmt.Printf("hostname   %s\n", name)
	list := addresses()
	if len(list) == 0 {
		list = []string{"none"}
	}
	fmt.Printf("address    %s\n", strings.Join(list, ", "))
	fmt.Printf("user       %s (uid %d)\n", lookupName("/etc/passwd", os.Geteuid()), os.Geteuid())
	fmt.Printf("memory     %s\n", limit("memory.max", "memory/memory.limit_in_bytes", func(n uint64) string { return human(n, true) }))
	fmt.Printf("processors %s\n", cpuLimit())
	fmt.Printf("processes  %s\n\n", limit("pids.max", "pids/pids.max", func(n uint64) string { return strconv.FormatUint(n, 10) + " at most" }))
	ps([]string{"-o", "pid,user,args"})
	fmt.Printf("\nTry a shell in it:  lade run -it lade/hello sh\n")
	return 0
}

// control reads a file of the control group, by its name in version 2 or 1.
func control(v2, v1 string) string {
	for _, p := range []string{v2, v1} {
		if b, err := os.ReadFile("/sys/fs/cgroup/" + p); err == nil {
			return strings.TrimSpace(string(b))
		}
	}
	return ""
}

func limit(v2, v1 string, show func(uint64) string) string {
	n, err := strconv.ParseUint(control(v2, v1), 10, 64)
	if err != nil || n >= 1<<62 {
		return "no limit"
	}
	return show(n)
}

func cpuLimit() string {
	quota, period, ok := strings.Cut(control("cpu.max", "-"), " ")
	if !ok {
		quota, period = control("-", "cpu/cpu.cfs_quota_us"), control("-", "cpu/cpu.cfs_period_us")
	}
	q, err := strconv.ParseFloat(quota, 64)
	p, perr := strconv.ParseFloat(period, 64)
	if err != nil || perr != nil || q <= 0 || p <= 0 {
		return "no limit"
	}
	return strconv.FormatFloat(q/p, 'f', 2, 64)
}
