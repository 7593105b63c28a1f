package runtime

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/ns"
	"lade/internal/linux/sys"
	"lade/internal/program"
)

// checkTime refuses clocks that a time namespace does not have.
func checkTime(s *specs.Spec, own bool) error {
	if len(s.Linux.TimeOffsets) > 0 && !own {
		return errdefs.Invalidf("timeOffsets need a time namespace")
	}
	for clock, o := range s.Linux.TimeOffsets {
		if clock != "monotonic" && clock != "boottime" {
			return errdefs.Invalidf("invalid clock %q for a time offset: only monotonic and boottime have one", clock)
		}
		if o.Nanosecs >= 1e9 {
			return errdefs.Invalidf("invalid time offset: %d nanoseconds", o.Nanosecs)
		}
	}
	return nil
}

// timeOffsets gives the process's children, and itself from execve on, a time
// namespace with its own offsets. They can be set until the first process is in
// it.
//
// Sources: time_namespaces(7); exec_task_namespaces in kernel/nsproxy.c, since
// Linux 6.3: before, only a child entered it.
func (b *builder) timeOffsets(proc ref, li *specs.Linux) {
	if !b.time {
		return
	}
	b.stage("unable to set time offsets", "")
	b.p.Sys("unshare", "time namespace", unix.SYS_UNSHARE, unix.CLONE_NEWTIME)
	var lines strings.Builder
	for clock, o := range li.TimeOffsets {
		lines.WriteString(clock + " " + strconv.FormatInt(o.Secs, 10) + " " + strconv.FormatUint(uint64(o.Nanosecs), 10) + "\n")
	}
	if lines.Len() > 0 {
		b.write(proc, "self/timens_offsets", lines.String(), 0)
	}
}

// checkClocks ends a process that did not get into its time namespace.
func (l *Launcher) checkClocks(r program.Result) error {
	theirs, err := ns.Of(r.Pid, unix.CLONE_NEWTIME)
	if errors.Is(err, os.ErrNotExist) {
		return nil // it has ended: its clocks do not matter any more
	}
	ours, failed := l.host.clocks()
	if err = errors.Join(err, failed); err == nil && theirs == ours {
		err = errdefs.NotImplementedf("a private time namespace needs Linux 6.3")
	}
	if err != nil {
		l.discard(r)
	}
	return err
}

// execElsewhere is the part of Exec that runs the program where the container
// has a time namespace of its own. No process enters one while it shares its
// memory (timens_install in kernel/time/namespace.c), so the child has a copy of
// ours: that costs what a fork does.
func (l *Launcher) execElsewhere(ctx context.Context, e *Exec) (_ *builder, _ program.Result, err error) {
	p, err := program.New(program.Parked)
	if err != nil {
		return nil, program.Result{}, err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	var ready, through [2]int
	if err := unix.Pipe2(ready[:], unix.O_CLOEXEC); err != nil {
		return nil, program.Result{}, sys.Error("pipe2", "", err)
	}
	defer sys.CloseAll(ready[0])
	b := newBuilder(l, p)
	defer b.close()
	b.own(ready[1])
	if err := unix.Pipe2(through[:], unix.O_CLOEXEC); err != nil {
		return b, program.Result{}, sys.Error("pipe2", "", err)
	}
	b.own(through[0])
	b.own(through[1])
	// It parks as a created container does, but may go on at once.
	if _, err := unix.Write(through[1], []byte{0}); err != nil {
		return b, program.Result{}, sys.Error("write", "pipe", err)
	}
	b.park, b.time = &parking{through[0], ready[1]}, true
	o, err := b.exec(e)
	if err != nil {
		return b, program.Result{}, err
	}
	r, err := l.submit(ctx, &job{p: p, o: o, spawn: true}, strconv.Itoa(e.Pid))
	if err != nil {
		return b, r, b.explain(err)
	}
	b.release(ready[1])
	// execve closes the last copy of the other end.
	var buf [2]byte
	for n := 1; n > 0 && err == nil; {
		err = sys.Retry(func() (err error) { n, err = unix.Read(ready[0], buf[:]); return err })
	}
	if err == nil {
		err = p.Outcome()
	}
	if err != nil {
		l.discard(r)
		return b, r, b.explain(err)
	}
	r.Took = time.Since(r.Began)
	return b, r, nil
}

// otherClocks reports whether a process has a time namespace of its own.
func (l *Launcher) otherClocks(pid int) bool {
	theirs, err := ns.Of(pid, unix.CLONE_NEWTIME)
	ours, failed := l.host.clocks()
	return err == nil && failed == nil && theirs != ours
}
