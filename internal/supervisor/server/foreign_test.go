package server

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/need"
	"lade/internal/runtime"
	"lade/internal/supervisor/wire"
)

// others are containers of another runtime: ordinary processes, and notes of
// what the runtime was asked.
type others struct {
	mu     sync.Mutex
	asked  []string
	left   map[string]bool // containers that have a bundle, and whether they were started
	refuse error           // of every verb
}

func (o *others) note(what string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked = append(o.asked, what)
	return o.refuse
}

func (o *others) said(what string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Contains(o.asked, what)
}

func (o *others) foreign(id string, r *wire.Runtime) (Foreign, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, there := o.left[id]; r == nil && !there {
		return nil, errdefs.NotFoundf("no bundle")
	}
	if r != nil {
		o.left[id] = false
	}
	return &guest{o: o, id: id}, nil
}

// guest is one of them.
type guest struct {
	o  *others
	id string
}

func (g *guest) Start(ctx context.Context, c *runtime.Container) (*runtime.Process, error) {
	p, err := plain{}.Start(ctx, c)
	g.o.mu.Lock()
	defer g.o.mu.Unlock()
	if err == nil {
		g.o.left[g.id] = true
	} else {
		delete(g.o.left, g.id)
	}
	return p, err
}

func (g *guest) Exec(ctx context.Context, e *runtime.Exec) (*runtime.Process, error) {
	if err := g.o.note("exec"); err != nil {
		return nil, err
	}
	return plain{}.Exec(ctx, e)
}

func (g *guest) Signal(_ context.Context, sig unix.Signal) error {
	return g.o.note("signal " + unix.SignalName(sig))
}

func (g *guest) Freeze(context.Context) error { return g.o.note("freeze") }
func (g *guest) Thaw(context.Context) error   { return g.o.note("thaw") }
func (g *guest) Update(_ context.Context, r *specs.LinuxResources) error {
	return g.o.note("update")
}

func (g *guest) Remove(context.Context) error {
	err := g.o.note("remove " + g.id)
	g.o.mu.Lock()
	defer g.o.mu.Unlock()
	delete(g.o.left, g.id)
	return err
}

func (g *guest) Started() bool {
	g.o.mu.Lock()
	defer g.o.mu.Unlock()
	return g.o.left[g.id]
}

func withOthers(t *testing.T) (*env, *others) {
	o := &others{left: map[string]bool{}}
	return inProcess(t, func(so *Options) { so.Foreign = o.foreign }), o
}

func byOther(m *wire.Start) { m.Runtime = &wire.Runtime{Name: "other", Kind: "oci"} }

// TestForeign supervises a container of another runtime like one of ours, and
// asks the runtime for the rest.
func TestForeign(t *testing.T) {
	e, o := withOthers(t)
	id, s := e.start("echo out; read line; exit 4", func(m *wire.Start) { byOther(m); m.Stdio.Stdin = true })
	if err := e.client.Signal(t.Context(), &wire.Signal{ID: id, Signal: 15}); err != nil || !o.said("signal SIGTERM") {
		t.Errorf("signal: %v", err)
	}
	if err := e.client.Signal(t.Context(), &wire.Signal{ID: id, Signal: 99}); !errors.Is(err, errdefs.Invalid) {
		t.Errorf("no signal: %v", err)
	}
	if err := e.client.Update(t.Context(), &wire.Update{ID: id, Resources: &specs.LinuxResources{}}); err != nil || !o.said("update") {
		t.Errorf("update: %v", err)
	}
	if err := e.client.Freeze(t.Context(), &wire.Freeze{ID: id}); err != nil || !o.said("freeze") {
		t.Errorf("freeze: %v", err)
	}
	run := &wire.Exec{ID: id, ExecID: "x1", Process: &specs.Process{Args: []string{"true"}}}
	if _, err := e.client.Exec(t.Context(), run); !errors.Is(err, errdefs.Conflict) {
		t.Errorf("exec while frozen: %v", err)
	}
	if err := e.client.Freeze(t.Context(), &wire.Freeze{ID: id, Thaw: true}); err != nil || !o.said("thaw") {
		t.Errorf("thaw: %v", err)
	}
	if _, err := e.client.Exec(t.Context(), run); err != nil || !o.said("exec") {
		t.Errorf("exec: %v", err)
	}
	if x := e.events.exit(id, "x1"); x.Code != 0 {
		t.Errorf("exec: %+v", x)
	}
	if _, err := unix.Write(int(s.Stdin.Fd()), []byte("\n")); err != nil {
		t.Fatal(err)
	}
	if x := e.events.exit(id, ""); x.Code != 4 {
		t.Errorf("exit %+v, want code 4", x)
	}
	if got := e.logged(id); !slices.Equal(got, []string{"stdout out\n"}) {
		t.Errorf("log: %q", got)
	}
	need.Eventually(t, "the clean-up", func() bool { return o.said("remove " + id) })
}

// TestForeignKill ends the process that we see, whatever the runtime
// would say to it.
func TestForeignKill(t *testing.T) {
	e, o := withOthers(t)
	o.refuse = errdefs.Internalf("broken")
	id, _ := e.start("read line", func(m *wire.Start) { byOther(m); m.Stdio.Stdin = true })
	if err := e.client.Signal(t.Context(), &wire.Signal{ID: id, Signal: 15}); err == nil {
		t.Error("the runtime's error is lost")
	}
	if err := e.client.Signal(t.Context(), &wire.Signal{ID: id, Signal: 9}); err != nil {
		t.Fatal(err)
	}
	if x := e.events.exit(id, ""); x.Code != 137 {
		t.Errorf("exit %+v, want code 137", x)
	}
}

// TestForeignOrphans reaps what a runtime's commands leave behind, and no child
// that somebody waits for.
func TestForeignOrphans(t *testing.T) {
	e, _ := withOthers(t)
	for range 20 {
		id, _ := e.start("exit 5", byOther)
		if x := e.events.exit(id, ""); x.Code != 5 {
			t.Errorf("exit %+v, want code 5", x)
		}
	}
}

// TestForeignUnknown refuses a runtime where there are no others.
func TestForeignUnknown(t *testing.T) {
	e := inProcess(t, nil)
	m := e.message("true")
	byOther(m)
	if _, err := e.client.Start(t.Context(), m); !errors.Is(err, errdefs.NotImplemented) {
		t.Errorf("start by another runtime where there is none: %v, want not implemented", err)
	}
}
