package systemd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"time"

	"github.com/godbus/dbus/v5"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/errdefs"
	"lade/internal/linux/cgroup"
	"lade/internal/trace"
)

const (
	// private is systemd's own socket, which works without a message bus.
	private     = "unix:path=/run/systemd/private"
	destination = "org.freedesktop.systemd1"
	object      = dbus.ObjectPath("/org/freedesktop/systemd1")
	iface       = "org.freedesktop.systemd1.Manager"
	// patience is how long systemd may take for a job.
	patience = 30 * time.Second
)

// Running reports whether systemd is the service manager of the host.
//
// Source: sd_booted(3).
func Running() bool {
	fi, err := os.Lstat("/run/systemd/system")
	return err == nil && fi.IsDir()
}

// Manager makes scopes.
type Manager struct {
	holder []string
	host   *cgroup.Host

	mu   sync.Mutex
	conn *dbus.Conn // guarded by mu; nil: not connected
}

// New returns a manager for a host's control groups. holder is a command that
// does nothing until the end of its standard input. The caller must Close.
func New(host *cgroup.Host, holder ...string) *Manager { return &Manager{holder: holder, host: host} }

// Close ends the connection.
func (m *Manager) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conn != nil {
		_ = m.conn.Close() // nothing is under way
		m.conn = nil
	}
}

// connect returns the connection. Errors: Unavailable.
func (m *Manager) connect(ctx context.Context) (*dbus.Conn, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conn != nil && m.conn.Connected() {
		return m.conn, nil
	}
	if !Running() {
		return nil, errdefs.Unavailablef("systemd not running on this host, cannot use systemd cgroups manager")
	}
	conn, err := dialPrivate()
	if err != nil {
		var busErr error
		if conn, busErr = dialBus(ctx); busErr != nil {
			return nil, errdefs.Unavailablef("cannot speak to systemd: %w", errors.Join(err, busErr))
		}
	}
	m.conn = conn
	return conn, nil
}

func dialPrivate() (*dbus.Conn, error) {
	conn, err := dbus.Dial(private)
	if err != nil {
		return nil, err
	}
	if err := conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Getuid()))}); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// dialBus goes by way of the message bus, on which signals must be asked for.
func dialBus(ctx context.Context) (*dbus.Conn, error) {
	conn, err := dbus.ConnectSystemBus()
	if err != nil {
		return nil, err
	}
	err = conn.AddMatchSignalContext(ctx, dbus.WithMatchInterface(iface), dbus.WithMatchMember("JobRemoved"))
	if err == nil {
		err = conn.Object(destination, object).CallWithContext(ctx, iface+".Subscribe", 0).Err
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// call calls a method of the manager.
func call(ctx context.Context, conn *dbus.Conn, method, unit string, args ...any) error {
	span := trace.Begin(trace.Cgroup, "systemd "+method, unit)
	return span.End(conn.Object(destination, object).CallWithContext(ctx, iface+"."+method, 0, args...).Err)
}

// Scope is a scope that is held.
type Scope struct {
	m      *Manager
	scope  cgroup.Scope
	holder *exec.Cmd
	stdin  io.Closer
}

// Start makes the scope, with limits as its properties, and returns when its
// group can be used. Errors: Unavailable without systemd; Conflict if a unit of
// that name has processes; Invalid for a name that cannot be.
func (m *Manager) Start(ctx context.Context, s cgroup.Scope, r *specs.LinuxResources) (_ *Scope, err error) {
	if _, err := s.Path(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := m.connect(ctx)
	if err != nil {
		return nil, err
	}
	held := &Scope{m: m, scope: s}
	if err := held.hold(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			held.Release()
		}
	}()
	props := append([]property{
		prop("Description", "lade container "+s.Name),
		prop("Slice", s.Slice),
		prop("PIDs", []uint32{uint32(held.holder.Process.Pid)}),
		prop("Delegate", true),
		prop("DefaultDependencies", false),
		prop("CollectMode", "inactive-or-failed"), // a leftover would take the name
		prop("MemoryAccounting", true), prop("CPUAccounting", true), prop("IOAccounting", true), prop("TasksAccounting", true),
	}, properties(r, m.host)...)
	props = append(props, devices(r, m.host)...)
	err = start(ctx, conn, s.Unit(), props)
	if hasName(err, "org.freedesktop.systemd1.UnitExists") { // one that failed stays until it is told to go
		_ = call(ctx, conn, "ResetFailedUnit", s.Unit(), s.Unit())
		err = start(ctx, conn, s.Unit(), props)
	}
	if hasName(err, "org.freedesktop.systemd1.UnitExists") {
		return nil, errdefs.Conflictf("the unit %s exists: %w", s.Unit(), err)
	}
	if err != nil {
		return nil, fmt.Errorf("unit %s: %w", s.Unit(), err)
	}
	return held, nil
}

// start starts a transient unit and waits for the end of the job.
func start(ctx context.Context, conn *dbus.Conn, unit string, props []property) error {
	signals := make(chan *dbus.Signal, 64)
	conn.Signal(signals)
	defer conn.RemoveSignal(signals)
	if err := call(ctx, conn, "StartTransientUnit", unit, unit, "fail", props, []auxiliary{}); err != nil {
		return err
	}
	for {
		select {
		case s, ok := <-signals:
			if !ok {
				return errdefs.Unavailablef("systemd has closed the connection")
			}
			result, ours := removed(s, unit)
			switch {
			case !ours:
			case result == "done":
				return nil
			default:
				return errdefs.Internalf("systemd could not start it: %s", result)
			}
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// removed reads a signal that a job has ended: of which unit, and how.
func removed(s *dbus.Signal, unit string) (result string, ours bool) {
	var id uint32
	var job dbus.ObjectPath
	var name string
	if s.Name != iface+".JobRemoved" || dbus.Store(s.Body, &id, &job, &name, &result) != nil {
		return "", false
	}
	return result, name == unit
}

// hasName reports whether systemd answered with the error of that name.
func hasName(err error, name string) bool {
	e, ok := errors.AsType[dbus.Error](err)
	return ok && e.Name == name
}

// hold starts the process that holds the scope.
func (s *Scope) hold() (err error) {
	s.holder = exec.Command(s.m.holder[0], s.m.holder[1:]...)
	s.holder.Dir = "/"
	if s.stdin, err = s.holder.StdinPipe(); err != nil {
		return err
	}
	span := trace.Begin(trace.Process, "exec", s.m.holder[0])
	return span.End(s.holder.Start())
}

// Release ends the process that holds the scope, and waits for it: from then
// on the scope lives as long as another process is in it. It is idempotent.
func (s *Scope) Release() {
	if s == nil || s.holder == nil {
		return
	}
	_ = s.stdin.Close()
	_ = s.holder.Process.Kill() // it has nothing to do at its end
	_ = s.holder.Wait()         // that it was killed
	s.holder = nil
}

// Abandon ends the scope of a container that could not be started, and removes
// its group.
func (s *Scope) Abandon(ctx context.Context) error {
	if s == nil {
		return nil
	}
	s.Release()
	g, err := s.m.host.Open(s.scope.String())
	if err == nil {
		err = g.Delete(ctx)
	}
	if errors.Is(err, errdefs.NotFound) {
		return nil
	}
	return err
}

// Update makes limits properties of the unit. A unit that is gone is no error:
// its processes have ended. Errors: Unavailable.
func (m *Manager) Update(ctx context.Context, s cgroup.Scope, r *specs.LinuxResources) error {
	props := properties(r, m.host)
	if len(props) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := m.connect(ctx)
	if err != nil {
		return err
	}
	err = call(ctx, conn, "SetUnitProperties", s.Unit(), s.Unit(), true, props)
	if hasName(err, "org.freedesktop.systemd1.NoSuchUnit") {
		return nil
	}
	return err
}
