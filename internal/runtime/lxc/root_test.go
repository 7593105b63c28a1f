package lxc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/cgroup"
	"lade/internal/linux/sys"
	"lade/internal/need"
	"lade/internal/runtime"
	"lade/internal/runtime/bundle"
)

// rootfs is a root with busybox, whose /sbin is a link.
func rootfs(t *testing.T) string {
	t.Helper()
	program := need.Program(t, "busybox", "Debian's busybox-static")
	dir := t.TempDir()
	for _, d := range []string{"bin", "dev", "etc", "proc", "sys", "tmp", "usr/sbin"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := os.ReadFile(program)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "bin/sh"), raw, 0o755)
	}
	if err = errors.Join(err, os.Symlink("usr/sbin", filepath.Join(dir, "sbin"))); err != nil {
		t.Fatal(err)
	}
	return dir
}

// run starts a container that executes a script, and returns what it wrote and
// how LXC says that it ended.
func run(t *testing.T, change func(c *runtime.Container), args ...string) (out string, c *Container, err error) {
	t.Helper()
	need.Root(t)
	groups, err := cgroup.Detect()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(groups.Close)
	b, err := bundle.Create(t.TempDir(), "one", bundle.Runtime{Name: "lxc", Kind: "lxc", Path: need.Program(t, "lxc-start", "Debian's lxc")})
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	group := fmt.Sprintf("/lade-test-lxc-%d/one", os.Getpid())
	a := &runtime.Container{
		ID: "one", NetNS: -1, Rootfs: runtime.Rootfs{Path: rootfs(t)}, Stdin: -1, Stdout: int(w.Fd()), Stderr: int(w.Fd()),
		Spec: &specs.Spec{
			Hostname: "named",
			Process: &specs.Process{
				Args: args, Cwd: "/made/dir", Env: []string{"PATH=/bin", "GREETING=hello  there"},
				Capabilities: &specs.LinuxCapabilities{Bounding: []string{"CAP_CHOWN"}},
			},
			Mounts: []specs.Mount{
				{Destination: "/proc", Type: "proc", Source: "proc"}, {Destination: "/dev", Type: "tmpfs", Source: "tmpfs"},
				{Destination: "/sbin/bound", Type: "bind", Source: "/etc/hostname", Options: []string{"bind", "ro"}},
			},
			Linux: &specs.Linux{CgroupsPath: group, Namespaces: []specs.LinuxNamespace{
				{Type: specs.MountNamespace}, {Type: specs.PIDNamespace}, {Type: specs.UTSNamespace}, {Type: specs.NetworkNamespace},
			}},
		},
	}
	if change != nil {
		change(a)
	}
	h := &Host{InitPath: "/no/init", Features: sys.Probe(), Cgroups: groups, Mapped: func(context.Context, *specs.Spec, int) (*runtime.Mapped, error) { return nil, nil }}
	c = New(h, b)
	p, err := c.Start(t.Context(), a)
	w.Close()
	t.Cleanup(func() {
		if _, err := groups.Open(group); !errors.Is(err, errdefs.NotFound) {
			t.Errorf("the control group is there: %v", err)
		}
		if _, err := os.Stat(b.Dir); !os.IsNotExist(err) {
			t.Errorf("the bundle is there: %v", err)
		}
		if g, err := groups.Open(filepath.Dir(group)); err == nil {
			if err := g.Delete(context.Background()); err != nil {
				t.Error(err)
			}
		}
	})
	if err != nil {
		return "", c, err
	}
	t.Cleanup(func() { // before the other
		if err := c.Remove(context.Background()); err != nil {
			t.Error(err)
		}
		if p.Cgroup != nil {
			if err := p.Cgroup.Delete(context.Background()); err != nil {
				t.Error(err)
			}
		}
		sys.CloseAll(p.Pidfd)
	})
	if !p.Adopted || p.Pid <= 0 || !c.Started() {
		t.Errorf("%+v", p)
	}
	raw, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	if !ended(p.Pidfd, monitorTime) {
		t.Fatal("it does not end")
	}
	return string(raw), c, nil
}

func TestStart(t *testing.T) {
	out, c, err := run(t, nil, "/bin/sh", "-c", `echo "$GREETING"; pwd; read name </proc/sys/kernel/hostname; echo $name; [ -s /sbin/bound ] && echo bound
		while read k v; do [ $k = CapBnd: ] && echo $v; done </proc/self/status; exit 7`)
	if err != nil {
		t.Fatal(err)
	}
	if want := "hello  there\n/made/dir\nnamed\nbound\n0000000000000001\n"; out != want {
		t.Errorf("%q, want %q", out, want)
	}
	if ws, ok := c.ExitStatus(); !ok || ws.ExitStatus() != 7 {
		t.Errorf("ended with %v, %v", ws, ok)
	}
}

// TestStartFilter shows that a profile is in force.
func TestStartFilter(t *testing.T) {
	out, c, err := run(t, func(a *runtime.Container) {
		a.Spec.Linux.Seccomp = &specs.LinuxSeccomp{
			DefaultAction: specs.ActAllow,
			Syscalls:      []specs.LinuxSyscall{{Names: []string{"mkdir", "mkdirat"}, Action: specs.ActErrno, ErrnoRet: new(uint(unix.ENOTTY))}},
		}
	}, "/bin/sh", "-c", "mkdir /tmp/x 2>&1; [ -d /tmp/x ] && exit 1; exit 0")
	if err != nil || !strings.Contains(out, unix.ENOTTY.Error()) && !strings.Contains(out, "Inappropriate ioctl") {
		t.Errorf("%q, %v", out, err)
	}
	if ws, ok := c.ExitStatus(); err == nil && (!ok || ws.ExitStatus() != 0) {
		t.Errorf("ended with %v, %v", ws, ok)
	}
}

func TestStartFails(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(a *runtime.Container)
		args   []string
		code   int
	}{
		"no such command":  {nil, []string{"/no/such"}, runtime.NotFound},
		"a directory":      {nil, []string{"/etc"}, runtime.NotExecutable},
		"no such source":   {func(a *runtime.Container) { a.Spec.Mounts[2].Source = "/no/such/source" }, []string{"/bin/sh"}, runtime.Failed},
		"what LXC has not": {func(a *runtime.Container) { a.Spec.Domainname = "x" }, []string{"/bin/sh"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := run(t, tc.change, tc.args...)
			se, ok := errors.AsType[*runtime.StartError](err)
			if err == nil || tc.code != 0 && (!ok || se.Code != tc.code) {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestOOMKills counts what the kernel killed after LXC has removed the control
// group that counted it.
func TestOOMKills(t *testing.T) {
	_, c, err := run(t, func(a *runtime.Container) {
		limit := int64(16 << 20)
		a.Spec.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit, Swap: &limit}}
	}, "/bin/sh", "-c", "exec dd if=/dev/zero of=/dev/null bs=200M count=1")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.endMonitor(); err != nil {
		t.Fatal(err)
	}
	if n, err := c.OOMKills(); n != 1 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}
