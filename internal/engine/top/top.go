package top

import (
	"bytes"
	"context"
	"errors"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	apicontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"lade/internal/engine/container"
	"lade/internal/errdefs"
	"lade/internal/linux/cgroup"
	"lade/internal/linux/proc"
)

// titles are the columns of `ps -ef`.
var titles = [...]string{"UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"}

// Host is what a list of processes needs of the engine.
type Host interface {
	// Find returns the container of that name, id, or unique prefix of an id.
	// Errors: NotFound, Invalid for an ambiguous prefix.
	Find(name string) (*container.Actor, error)
	// Group opens the control group of a running container. Errors: NotFound.
	Group(r *container.Record) (*cgroup.Group, error)
	// Publish tells the event log.
	Publish(r *container.Record, action events.Action, more map[string]string)
}

// Lister lists the processes of containers.
type Lister struct{ host Host }

// New returns a lister. It needs no closing.
func New(h Host) *Lister { return &Lister{h} }

// pids returns the processes of a running container, those of its execs too.
func (l *Lister) pids(r *container.Record) ([]int, error) {
	g, err := l.host.Group(r)
	if err != nil {
		return nil, err
	}
	pids, err := g.Pids()
	slices.Sort(pids)
	return pids, err
}

// ContainerTop lists the processes of a running container as ps(1) does. With
// arguments other than -ef the host's ps is asked. Errors: NotFound, Conflict
// if it does not run, Invalid for arguments whose output has no PID column.
func (l *Lister) ContainerTop(ctx context.Context, name string, args []string) (apicontainer.TopResponse, error) {
	var out apicontainer.TopResponse
	a, err := l.host.Find(name)
	if err != nil {
		return out, err
	}
	r := a.View()
	if r.State == container.Restarting {
		return out, errdefs.Conflictf("Container %s is restarting, wait until the container is running", r.ID)
	}
	if !r.State.Alive() {
		return out, errdefs.Conflictf("container %s is not running", r.ID)
	}
	pids, err := l.pids(r)
	if err != nil {
		return out, err
	}
	if len(args) == 0 || len(args) == 1 && args[0] == "-ef" {
		out, err = processes(pids)
	} else {
		out, err = hostPS(ctx, pids, args)
	}
	if err == nil {
		l.host.Publish(r, events.ActionTop, nil)
	}
	return out, err
}

// processes lists processes in the columns of `ps -ef`.
func processes(pids []int) (apicontainer.TopResponse, error) {
	out := apicontainer.TopResponse{Titles: titles[:], Processes: [][]string{}}
	boot, err := proc.BootTime()
	if err != nil {
		return out, err
	}
	now := time.Now()
	names := map[uint32]string{}
	for _, pid := range pids {
		p, err := proc.Read(pid)
		if errdefs.KindOf(err) == errdefs.NotFound {
			continue
		}
		if err != nil {
			return out, err
		}
		if names[p.UID] == "" {
			names[p.UID] = strconv.Itoa(int(p.UID))
			if u, err := user.LookupId(names[p.UID]); err == nil {
				names[p.UID] = u.Username
			}
		}
		started := boot.Add(p.Start)
		share := 0
		if lived := now.Sub(started); lived > 0 {
			share = int(min(100*p.CPU/lived, 99))
		}
		stime := started.Format("15:04")
		if started.YearDay() != now.YearDay() || started.Year() != now.Year() {
			stime = started.Format("Jan02")
		}
		cmd := "[" + p.Command + "]"
		if len(p.Cmdline) > 0 {
			cmd = strings.Join(p.Cmdline, " ")
		}
		sec := int(p.CPU.Seconds())
		spent := time.Date(0, 1, 1, 0, 0, sec%86400, 0, time.UTC).Format("15:04:05")
		if days := sec / 86400; days > 0 {
			spent = strconv.Itoa(days) + "-" + spent
		}
		out.Processes = append(out.Processes, []string{
			names[p.UID], strconv.Itoa(p.Pid), strconv.Itoa(p.PPid), strconv.Itoa(share), stime, ttyName(p.TTY), spent, cmd,
		})
	}
	return out, nil
}

// ttyName is a terminal's name by its device number, "?" for none.
//
// Source: Documentation/admin-guide/devices.rst; the number's layout is in
// proc_pid_stat(5).
func ttyName(dev int) string {
	major, minor := dev>>8&0xfff, dev&0xff|dev>>12&0xfff00
	switch {
	case dev == 0:
		return "?"
	case major >= 136 && major <= 143:
		return "pts/" + strconv.Itoa(minor+(major-136)*256)
	case major == 4 && minor < 64:
		return "tty" + strconv.Itoa(minor)
	case major == 4:
		return "ttyS" + strconv.Itoa(minor-64)
	}
	return strconv.Itoa(major) + ":" + strconv.Itoa(minor)
}

// hostPS runs the host's ps with the user's arguments and keeps the lines of
// the container's processes.
func hostPS(ctx context.Context, pids []int, args []string) (apicontainer.TopResponse, error) {
	var out apicontainer.TopResponse
	var words []string
	for _, a := range args {
		words = append(words, strings.Fields(a)...)
	}
	raw, err := exec.CommandContext(ctx, "ps", words...).Output()
	if err != nil {
		if ee, ok := errors.AsType[*exec.ExitError](err); ok {
			return out, errdefs.Invalidf("error running ps: %s", bytes.TrimSpace(ee.Stderr))
		}
		return out, errdefs.Internalf("error running ps: %w", err)
	}
	lines := strings.Split(strings.TrimRight(string(raw), "\n"), "\n")
	out.Titles = strings.Fields(lines[0])
	column := slices.Index(out.Titles, "PID")
	if column < 0 {
		return out, errdefs.Invalidf("Couldn't find PID field in ps output")
	}
	out.Processes = [][]string{}
	for _, line := range lines[1:] {
		f := strings.Fields(line)
		if len(f) <= column {
			continue
		}
		pid, err := strconv.Atoi(f[column])
		if err != nil || !slices.Contains(pids, pid) {
			continue
		}
		if n := len(out.Titles); len(f) > n { // the last column is a command with spaces
			f = append(f[:n-1:n-1], strings.Join(f[n-1:], " "))
		}
		out.Processes = append(out.Processes, f)
	}
	return out, nil
}
