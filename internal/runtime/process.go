package runtime

import (
	"path"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/linux/caps"
	"lade/internal/linux/passwd"
	"lade/internal/linux/rootpath"
	"lade/internal/linux/sys"
	"lade/internal/program"
)

// defaultPath is where commands are looked for when the environment has no PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

const defaultUmask = 0o022

// identity is who a process will be.
type identity struct {
	passwd.User
	umask uint32
}

// whoami resolves the user in the container whose root directory is given.
// exact takes the numbers of the spec as they are.
func whoami(root int, spec string, groupAdd []string, u *specs.User, exact bool) (identity, error) {
	id := identity{umask: defaultUmask}
	if u.Umask != nil {
		id.umask = *u.Umask
	}
	read := func(p string) ([]byte, error) { return rootpath.ReadFile(root, p, passwd.Limit) }
	if exact || spec == "" && len(groupAdd) == 0 && (u.UID != 0 || u.GID != 0 || len(u.AdditionalGids) != 0) {
		id.UID, id.GID, id.Groups = u.UID, u.GID, u.AdditionalGids
		id.Home = passwd.Home(u.UID, read)
		return id, nil
	}
	who, err := passwd.Resolve(spec, groupAdd, read)
	if err != nil {
		return id, &StartError{Op: err.Error()}
	}
	id.User = *who
	return id, nil
}

// environment returns env with HOME added if it has none. Of a variable that is
// there more than once the last counts: programs look at the first.
func environment(env []string, home string) []string {
	env = last(env)
	if slices.ContainsFunc(env, func(e string) bool { return strings.HasPrefix(e, "HOME=") && e != "HOME=" }) {
		return env
	}
	if home == "" {
		home = "/"
	}
	out := make([]string, 0, len(env)+1)
	for _, e := range env {
		if !strings.HasPrefix(e, "HOME=") {
			out = append(out, e)
		}
	}
	return append(out, "HOME="+home)
}

// last drops entries of which another one of the same name follows. It returns env
// itself when there are none.
func last(env []string) []string {
	same := func(a, b string) bool {
		i := strings.IndexByte(a, '=')
		return i > 0 && len(b) > i && a[:i+1] == b[:i+1]
	}
	again := func(i int) bool {
		return slices.ContainsFunc(env[i+1:], func(o string) bool { return same(env[i], o) })
	}
	n := 0
	for n < len(env) && !again(n) {
		n++
	}
	if n == len(env) {
		return env
	}
	out := slices.Clone(env[:n])
	for i := n + 1; i < len(env); i++ {
		if !again(i) {
			out = append(out, env[i])
		}
	}
	return out
}

// lookup returns the value of a variable; the last one counts.
func lookup(env []string, name string) (value string, ok bool) {
	for _, e := range slices.Backward(env) {
		if v, found := strings.CutPrefix(e, name+"="); found {
			return v, true
		}
	}
	return "", false
}

// standard connects descriptors 0, 1 and 2. Afterwards no other is open.
func (b *builder) standard(streams [3]int, id identity, terminal bool) {
	b.p.Sys("setsid", "", unix.SYS_SETSID)
	if terminal {
		streams = [3]int{b.console, b.console, b.console}
	}
	var from [3]ref
	var null ref
	for i, fd := range streams {
		switch {
		case fd < 0:
			if !null.valid() {
				null = b.devNull()
			}
			from[i] = null
		case fd <= 2: // would be overwritten
			from[i] = result(b.p.Sys("fcntl", "F_DUPFD_CLOEXEC", unix.SYS_FCNTL, uint64(fd), unix.F_DUPFD_CLOEXEC, 3))
		default:
			from[i] = known(fd)
		}
	}
	for i := range from {
		b.sys("dup3", strconv.Itoa(i), unix.SYS_DUP3, from[i], uint64(i), 0)
		// Who is not root must be able to open /dev/stdout again.
		if b.user == nil && id.UID != 0 && streams[i] >= 0 && (terminal || isPipe(streams[i])) {
			b.p.Sys("fchown", strconv.Itoa(i), unix.SYS_FCHOWN, uint64(i), uint64(id.UID), ^uint64(0)).AllowAll()
		}
	}
	if terminal && b.guard == nil {
		b.p.Sys("ioctl", "TIOCSCTTY", unix.SYS_IOCTL, 0, unix.TIOCSCTTY, 0)
	}
	first := uint64(3 + b.preserve)
	var listener, guard ref
	if b.listener != nil {
		listener = b.high(b.listener.theirs) // its number may be one that is about to be taken
	}
	if b.guard != nil {
		guard = b.high(b.guard.theirs)
	}
	if b.ready != nil {
		ready := b.high(b.ready.theirs)
		b.sys("dup3", "readiness", unix.SYS_DUP3, ready, readyFD, 0)
		first = readyFD + 1
	}
	if b.park != nil {
		first = b.keepParking()
	}
	if b.listener != nil {
		first = b.keepListener(listener, first)
	}
	if b.guard != nil {
		first = b.keepGuard(guard, first)
	}
	b.p.Sys("close_range", "", unix.SYS_CLOSE_RANGE, first, fileLimit, 0)
}

// devNull opens the container's own null device; a descriptor of the host's
// takes its place where there is none.
func (b *builder) devNull() ref {
	if b.root < 0 {
		return known(b.l.null)
	}
	how := b.p.Words(unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOCTTY|unix.O_NONBLOCK, 0, rootpath.Resolve)
	host := b.p.Sys("fcntl", "F_DUPFD_CLOEXEC", unix.SYS_FCNTL, uint64(b.l.null), unix.F_DUPFD_CLOEXEC, 3)
	// Only the device that this program has made is known to be one.
	if !b.dev.valid() {
		return result(host)
	}
	inside := b.sys("openat2", "/dev/null", unix.SYS_OPENAT2, b.dev, b.p.String("null"), how, 24).Retry(attempts).AllowAll()
	return result(host, inside)
}

func isPipe(fd int) bool {
	var st unix.Stat_t
	return unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFIFO
}

// become turns the child into the process of the spec: directory, limits,
// identity, privileges, filter, program. It must come last.
func (b *builder) become(proc *specs.Process, id identity, f filter) {
	b.argv0 = proc.Args[0]
	cwd := proc.Cwd
	if cwd == "" {
		cwd = "/"
	}
	b.stage("chdir to cwd (\""+cwd+"\") set in config.json failed", bare)
	b.p.Sys("chdir", cwd, unix.SYS_CHDIR, b.p.String(cwd))
	for _, r := range proc.Rlimits {
		n := rlimit(r.Type)
		b.stage("error setting rlimits for ready process: error setting rlimit type "+strconv.Itoa(n), bare)
		b.p.Sys("prlimit64", r.Type, unix.SYS_PRLIMIT64, 0, uint64(n), b.p.Words(r.Soft, r.Hard), 0)
	}
	b.scheduling(proc)
	b.internal()
	b.p.Sys("umask", "", unix.SYS_UMASK, uint64(id.umask))
	sets := b.capabilities(proc.Capabilities)
	for c := 0; c <= b.l.host.lastCap; c++ {
		if !sets.bounding.Has(c) {
			b.p.Sys("prctl", "PR_CAPBSET_DROP", unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, uint64(c), 0, 0, 0).Allow(unix.EPERM)
		}
	}
	for n := 1; b.l.host.ignored>>(n-1) != 0; n++ {
		if b.l.host.ignored>>(n-1)&1 != 0 {
			action := b.p.Space(32) // struct sigaction: SIG_DFL
			b.p.Sys("rt_sigaction", "SIG_DFL", unix.SYS_RT_SIGACTION, uint64(n), program.Address(action), 0, 8)
		}
	}
	env, files := proc.Env, []string{b.path}
	if b.path == "" {
		env = environment(proc.Env, id.Home)
		files = candidates(proc.Args[0], env)
	}
	b.check(files)
	// Who creates a container passes its listener on, and is gone when it is
	// started: then it waits with the filter in force.
	if b.park != nil && b.listener == nil {
		b.parkHere(files)
	}
	if proc.NoNewPrivileges {
		b.p.Sys("prctl", "PR_SET_NO_NEW_PRIVS", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	} else {
		// Installing a filter needs CAP_SYS_ADMIN then, so it comes before that
		// goes; what follows must be allowed by it.
		b.install(f)
	}
	b.credentials(id, sets)
	if proc.NoNewPrivileges {
		b.install(f)
	}
	if b.park != nil && b.listener != nil {
		b.parkHere(files)
	}
	if b.guard != nil {
		b.split(files)
	}
	b.p.Sys("rt_sigprocmask", "", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, b.p.Words(0), 0, 8)
	b.execute(files, proc.Args, env)
}

// filter is a seccomp program and the flags to load it with.
type filter struct {
	code  []byte
	flags uint
}

// install loads a filter, and hands its listener to our side.
func (b *builder) install(f filter) {
	if len(f.code) == 0 {
		return
	}
	b.stage("unable to init seccomp", "")
	prog := b.p.Words(uint64(len(f.code)/8), b.p.Bytes(f.code))
	o := b.p.Sys("seccomp", "", unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, uint64(f.flags), prog)
	if b.listener != nil {
		b.sendListener(o)
		// execve may be a call that is handed over: with this descriptor open it would
		// wait for ever once the listener has gone (seccomp_unotify(2)).
		b.sys("close", "seccomp listener", unix.SYS_CLOSE, result(o)).AllowAll()
	}
}

// capabilitySets are the five sets of capabilities(7).
type capabilitySets struct{ bounding, effective, permitted, inheritable, ambient caps.Set }

func (b *builder) capabilities(c *specs.LinuxCapabilities) (s capabilitySets) {
	if c == nil {
		// As runc: no word about capabilities leaves none but what the kernel
		// gives root in the bounding set.
		return s
	}
	all := b.l.host.permit
	parse := func(names []string) caps.Set {
		set, _ := caps.Parse(names)
		// What this process does not have it cannot give.
		return set & all
	}
	return capabilitySets{parse(c.Bounding), parse(c.Effective), parse(c.Permitted), parse(c.Inheritable), parse(c.Ambient)}
}

func (b *builder) credentials(id identity, s capabilitySets) {
	b.stage("unable to apply caps or user", "")
	if id.UID != 0 {
		b.p.Sys("prctl", "PR_SET_KEEPCAPS", unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1, 0, 0, 0)
	}
	if !b.l.host.noGroups || len(id.Groups) > 0 {
		groups := b.p.Space(4 * max(len(id.Groups), 1))
		for i, g := range id.Groups {
			*(*uint32)(unsafe.Pointer(&groups[4*i])) = g
		}
		b.p.Sys("setgroups", "", unix.SYS_SETGROUPS, uint64(len(id.Groups)), program.Address(groups))
	}
	gid, uid := uint64(id.GID), uint64(id.UID)
	b.p.Sys("setresgid", "", unix.SYS_SETRESGID, gid, gid, gid)
	b.p.Sys("setresuid", "", unix.SYS_SETRESUID, uid, uid, uid)
	if id.UID != 0 {
		b.p.Sys("prctl", "PR_SET_KEEPCAPS", unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 0, 0, 0, 0)
	}
	data := b.p.Space(24)
	w := unsafe.Slice((*uint32)(unsafe.Pointer(&data[0])), 6)
	w[0], w[1], w[2] = uint32(s.effective), uint32(s.permitted), uint32(s.inheritable)
	w[3], w[4], w[5] = uint32(s.effective>>32), uint32(s.permitted>>32), uint32(s.inheritable>>32)
	b.p.Sys("capset", "", unix.SYS_CAPSET, b.p.Words(unix.LINUX_CAPABILITY_VERSION_3), program.Address(data))
	for c := 0; s.ambient != 0 && c <= b.l.host.lastCap; c++ {
		if s.ambient.Has(c) {
			b.p.Sys("prctl", "PR_CAP_AMBIENT_RAISE", unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, uint64(c), 0, 0)
		}
	}
}

// candidates returns the files that a command can stand for, in the order of
// execvp(3).
func candidates(command string, env []string) []string {
	switch {
	case command == "":
		return nil
	case strings.Contains(command, "/"):
		return []string{command}
	}
	search, ok := lookup(env, "PATH")
	if !ok {
		search = defaultPath
	}
	var out []string
	for dir := range strings.SplitSeq(search, ":") {
		if dir == "" {
			dir = "."
		}
		out = append(out, path.Join(dir, command))
	}
	return out
}

// callCheck names the ops of check.
const callCheck = "check"

// check refuses a command that is a magic link, such as /proc/self/exe: it
// would run the caller's own program. It comes before the filter, which need
// not allow openat2; every error but that one is execve's to report.
func (b *builder) check(files []string) {
	how := b.p.Words(unix.O_PATH|unix.O_CLOEXEC, 0, unix.RESOLVE_NO_MAGICLINKS)
	for _, f := range files {
		b.p.Sys(callCheck, f, unix.SYS_OPENAT2, atCWD, b.p.String(f), how, 24).AllowAll().Refuse(unix.ELOOP)
	}
}

// execute ends the program: execve of the first of the files that can be
// executed.
func (b *builder) execute(files, args, env []string) {
	argv, envp := b.p.Strings(args), b.p.Strings(env)
	b.execFirst, b.execs = b.p.Len(), len(files)
	for i, f := range files {
		o := b.p.Sys("execve", f, unix.SYS_EXECVE, b.p.String(f), argv, envp)
		if b.guard != nil && i == len(files)-1 {
			break // only the op that fails is known of such a child
		}
		o.Allow(unix.ENOENT, unix.EACCES, unix.ENOTDIR, unix.ELOOP, unix.ENAMETOOLONG, unix.ENODEV, unix.ESTALE, unix.ETIMEDOUT)
	}
	// Only reached when nothing could be executed: tells a missing file from a
	// missing interpreter, and a directory from a file.
	b.statBuf = b.p.Space(256)
	b.statOp = b.p.Sys("statx", args[0], unix.SYS_STATX, atCWD, b.p.String(args[0]), 0, unix.STATX_TYPE, program.Address(b.statBuf)).AllowAll().Index()
}

// raise lifts those hard limits of a process that are to be higher than our own,
// while it is the host's root: the root of a user namespace may only lower them
// (getrlimit(2), CAP_SYS_RESOURCE). What holds in the end is set by become.
func (b *builder) raise(limits []specs.POSIXRlimit) error {
	for _, r := range limits {
		n := rlimit(r.Type)
		var own unix.Rlimit
		if err := unix.Prlimit(0, n, nil, &own); err != nil {
			return sys.Error("prlimit", r.Type, err)
		}
		if r.Hard <= own.Max {
			continue
		}
		b.stage("error setting rlimits for ready process: error setting rlimit type "+strconv.Itoa(n), bare)
		b.p.Sys("prlimit64", r.Type, unix.SYS_PRLIMIT64, 0, uint64(n), b.p.Words(own.Cur, r.Hard), 0)
	}
	return nil
}

// rlimit returns the kernel's number, or -1.
func rlimit(name string) int {
	switch name {
	case "RLIMIT_CPU":
		return unix.RLIMIT_CPU
	case "RLIMIT_FSIZE":
		return unix.RLIMIT_FSIZE
	case "RLIMIT_DATA":
		return unix.RLIMIT_DATA
	case "RLIMIT_STACK":
		return unix.RLIMIT_STACK
	case "RLIMIT_CORE":
		return unix.RLIMIT_CORE
	case "RLIMIT_RSS":
		return unix.RLIMIT_RSS
	case "RLIMIT_NPROC":
		return unix.RLIMIT_NPROC
	case "RLIMIT_NOFILE":
		return unix.RLIMIT_NOFILE
	case "RLIMIT_MEMLOCK":
		return unix.RLIMIT_MEMLOCK
	case "RLIMIT_AS":
		return unix.RLIMIT_AS
	case "RLIMIT_LOCKS":
		return unix.RLIMIT_LOCKS
	case "RLIMIT_SIGPENDING":
		return unix.RLIMIT_SIGPENDING
	case "RLIMIT_MSGQUEUE":
		return unix.RLIMIT_MSGQUEUE
	case "RLIMIT_NICE":
		return unix.RLIMIT_NICE
	case "RLIMIT_RTPRIO":
		return unix.RLIMIT_RTPRIO
	case "RLIMIT_RTTIME":
		return unix.RLIMIT_RTTIME
	}
	return -1
}
