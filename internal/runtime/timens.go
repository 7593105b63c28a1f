package runtime

import (
	"errors"
	"os"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/ns"
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
	same, err := ns.Same(r.Pid, unix.CLONE_NEWTIME)
	if errors.Is(err, os.ErrNotExist) {
		return nil // it has ended: its clocks do not matter any more
	}
	if err == nil && same {
		err = errdefs.NotImplementedf("a private time namespace needs Linux 6.3")
	}
	if err != nil {
		l.discard(r)
	}
	return err
}
