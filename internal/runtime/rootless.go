package runtime

import (
	"context"
	"os"
	"os/exec"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/idmap"
	"lade/internal/linux/ns"
	"lade/internal/linux/sys"
	"lade/internal/program"
)

// Again is an execution of the calling program as root of a user namespace:
// there a caller without privileges has those that Start and Exec need.
type Again struct {
	// IDs is the map of a new user namespace, whose root is 0.
	IDs idmap.Map
	// Pidfd is a process whose user namespace is entered instead of a new one,
	// or -1.
	Pidfd     int
	Args, Env []string
}

// Again executes the calling program once more, in a child with the caller's
// descriptors, a user namespace and a mount namespace, a copy of the caller's,
// that belongs to it. The caller's memory is not kept from others meanwhile: it
// must not have started anything.
//
// A map of one user, the caller itself, and one group is written directly; for
// any other newuidmap(1) and newgidmap(1) are asked, which know from /etc/subuid
// and /etc/subgid what the caller may have. Errors: Invalid for the map.
//
// Source: user_namespaces(7), "Defining user and group ID mappings: writing to
// uid_map and gid_map".
func (l *Launcher) Again(ctx context.Context, a *Again) (*Process, error) {
	// Otherwise the child's files in /proc, of which some must be written to,
	// would be root's: proc_pid(5).
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0); err != nil {
		return nil, sys.Error("prctl", "PR_SET_DUMPABLE", err)
	}
	self, err := Executable()
	if err != nil {
		return nil, err
	}
	p, err := l.take()
	if err != nil {
		return nil, err
	}
	defer l.give(p)
	at := a.Pidfd
	if at < 0 {
		if at, err = l.ownUser(ctx, a.IDs); err != nil {
			return nil, err
		}
		defer sys.CloseAll(at)
	}
	p.Sys("setns", "user namespace", unix.SYS_SETNS, uint64(at), unix.CLONE_NEWUSER)
	p.Sys("setresgid", "", unix.SYS_SETRESGID, 0, 0, 0)
	p.Sys("setresuid", "", unix.SYS_SETRESUID, 0, 0, 0)
	p.Sys("unshare", "mount namespace", unix.SYS_UNSHARE, unix.CLONE_NEWNS)
	p.Sys("rt_sigprocmask", "", unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, p.Words(0), 0, 8)
	p.Sys("execve", self, unix.SYS_EXECVE, p.String(self), p.Strings(a.Args), p.Strings(a.Env))
	r, err := l.run(ctx, p, program.Options{Cgroup: -1, PidNS: -1}, self)
	if err != nil {
		return nil, err
	}
	return &Process{Pid: r.Pid, Pidfd: r.Pidfd, Console: -1}, nil
}

// ownUser makes a user namespace without privileges and returns its descriptor.
func (l *Launcher) ownUser(ctx context.Context, ids idmap.Map) (fd int, err error) {
	if err := ids.Check(); err != nil {
		return -1, err
	}
	if _, _, ok := ids.Host(0, 0); !ok {
		return -1, errdefs.Invalidf("the user namespace has no root: nothing is mapped to 0")
	}
	write := writeByHelpers
	if ownOnly(ids.UID, os.Geteuid()) && ownOnly(ids.GID, os.Getegid()) {
		write = func(ids idmap.Map, pid int) error {
			// Who has no privileges must not drop groups that keep others out:
			// user_namespaces(7), "The /proc/PID/setgroups file".
			if err := os.WriteFile("/proc/"+strconv.Itoa(pid)+"/setgroups", []byte("deny"), 0); err != nil {
				return err
			}
			return ids.Write(pid)
		}
	}
	err = l.hold(ctx, program.Options{Flags: unix.CLONE_NEWUSER, Cgroup: -1, PidNS: -1}, nil, func(pid int) (err error) {
		if err = write(ids, pid); err == nil {
			fd, err = ns.Open(pid, unix.CLONE_NEWUSER)
		}
		return err
	})
	if err != nil {
		return -1, err
	}
	return fd, nil
}

// ownOnly reports whether only the caller's own id is mapped.
func ownOnly(lines []specs.LinuxIDMapping, id int) bool {
	return len(lines) == 1 && lines[0].Size == 1 && int(lines[0].HostID) == id
}

// writeByHelpers has the programs of Debian's uidmap write a map.
func writeByHelpers(ids idmap.Map, pid int) error {
	for _, h := range []struct {
		program string
		lines   []specs.LinuxIDMapping
	}{{"newuidmap", ids.UID}, {"newgidmap", ids.GID}} {
		args := []string{strconv.Itoa(pid)}
		for _, l := range h.lines {
			for _, n := range []uint32{l.ContainerID, l.HostID, l.Size} {
				args = append(args, strconv.FormatUint(uint64(n), 10))
			}
		}
		if out, err := exec.Command(h.program, args...).CombinedOutput(); err != nil {
			return errdefs.Invalidf("the user may not have these ids: %s: %w: %s", h.program, err, out)
		}
	}
	return nil
}
