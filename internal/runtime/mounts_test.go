package runtime

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// TestCopyUp: a tmpfs begins with what the image has in its place, with owners,
// modes and attributes, and what is written to it stays out of the image.
func TestCopyUp(t *testing.T) {
	s := newSandbox(t)
	s.mkdir("image/data/deep")
	s.file("image/data/deep/file", "of the image", 0o640)
	if err := os.Symlink("deep/file", s.root+"/data/link"); err != nil {
		t.Fatal(err)
	}
	for path, id := range map[string]int{"/data": 7, "/data/deep/file": 8} {
		if err := os.Lchown(s.root+path, id, id); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(s.root+"/data", 0o751); err != nil {
		t.Fatal(err)
	}
	for name, user := range map[string]bool{"host": false, "user": true} {
		t.Run(name, func(t *testing.T) {
			s := *s
			s.t = t
			c := s.container()
			if user {
				c = withUser(c)
			}
			c.Spec.Mounts = append(c.Spec.Mounts,
				specs.Mount{Destination: "/data", Type: "tmpfs", Source: "tmpfs", Options: []string{"nodev", "tmpcopyup"}},
				specs.Mount{Destination: "/new", Type: "tmpfs", Source: "tmpfs", Options: []string{"tmpcopyup"}},
				specs.Mount{Destination: "/home", Type: "tmpfs", Source: "tmpfs", Options: []string{"ro", "tmpcopyup"}})
			got := s.tries(c, "stat=/data", "stat=/data/deep/file", "read=/data/link", "write=/data/deep/new", "write=/new/x", "stat=/new", "list=/home", "write=/home/x")
			expect(t, got, map[string]string{
				"stat=/data": "40751 0:0 7:7", "stat=/data/deep/file": "100640 0:0 8:8", "read=/data/link": "of the image",
				"write=/data/deep/new": "ok", "write=/new/x": "ok", "stat=/new": "41777 0:0 0:0", "list=/home": "1",
				"write=/home/x": "error open /home/x: read-only file system",
			})
			if _, err := os.Stat(s.root + "/data/deep/new"); err == nil {
				t.Error("the image was written to")
			}
		})
	}
	c := s.container()
	c.Spec.Mounts = append(c.Spec.Mounts, specs.Mount{Destination: "/bin", Type: "tmpfs", Source: "tmpfs", Options: []string{"size=4k", "tmpcopyup"}})
	if _, err := s.start(c); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("more than fits: %v", err)
	}
}

func TestMounts(t *testing.T) {
	s := newSandbox(t)
	vol, file := s.mkdir("vol"), s.file("file", "from the host", 0o644)
	s.file("vol/inside", "in the volume", 0o644)
	below := s.mkdir("vol/below")
	if err := unix.Mount("tmpfs", below, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(below, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	c := s.container()
	c.Spec.Mounts = append(c.Spec.Mounts,
		specs.Mount{Destination: "/rw", Type: "bind", Source: vol, Options: []string{"rbind", "rprivate"}},
		specs.Mount{Destination: "/ro", Type: "bind", Source: vol, Options: []string{"rbind", "ro", "rprivate", "nosuid"}},
		specs.Mount{Destination: "/rro", Type: "bind", Source: vol, Options: []string{"rbind", "rro", "rprivate"}},
		specs.Mount{Destination: "/one", Type: "bind", Source: vol, Options: []string{"bind"}},
		specs.Mount{Destination: "/made/by/lade/file", Type: "bind", Source: file, Options: []string{"rbind", "ro"}},
		specs.Mount{Destination: "/etc/hosts", Type: "bind", Source: file, Options: []string{"rbind"}},
		specs.Mount{Destination: "/memory", Type: "tmpfs", Source: "tmpfs", Options: []string{"nosuid", "nodev", "noexec", "size=64k", "mode=1770", "uid=5", "gid=6"}},
		specs.Mount{Destination: "/memory/deeper/still", Type: "bind", Source: vol, Options: []string{"rbind"}},
		specs.Mount{Destination: "/odd", Type: "tmpfs", Source: "tmpfs", Options: []string{"ro"}},
		specs.Mount{Destination: "/var/run/socket", Type: "bind", Source: file, Options: []string{"rbind"}},
		specs.Mount{Destination: "/dev/shm/x", Type: "tmpfs", Source: "tmpfs"},
	)
	got := s.tries(c,
		"read=/rw/inside", "write=/rw/new", "write=/rw/below/new",
		"read=/ro/inside", "write=/ro/new2", "write=/ro/below/new2",
		"write=/rro/new3", "write=/rro/below/new3", "list=/one/below", "list=/rw/below",
		"read=/made/by/lade/file", "append=/made/by/lade/file", "append=/etc/hosts",
		"stat=/memory", "read=/memory/deeper/still/inside", "mode=/odd", "write=/odd/x", "read=/run/socket", "mode=/dev/shm/x",
		"mode=/made/by", "mode=/made/by/lade/file",
	)
	rofs := ": read-only file system"
	expect(t, got, map[string]string{
		"read=/rw/inside": "in the volume", "write=/rw/new": "ok", "write=/rw/below/new": "ok",
		"read=/ro/inside": "in the volume", "write=/ro/new2": "error open /ro/new2" + rofs, "write=/ro/below/new2": "ok",
		"write=/rro/new3": "error open /rro/new3" + rofs, "write=/rro/below/new3": "error open /rro/below/new3" + rofs,
		"list=/one/below": "0", "list=/rw/below": "2",
		"read=/made/by/lade/file": "from the host", "append=/made/by/lade/file": "error open /made/by/lade/file" + rofs, "append=/etc/hosts": "ok",
		"stat=/memory": "41770 0:0 5:6", "read=/memory/deeper/still/inside": "in the volume",
		"mode=/odd": "dtrwx--x--x", "write=/odd/x": "error open /odd/x" + rofs, "read=/run/socket": "xrom the host", "mode=/dev/shm/x": "dtrwxrwxrwx",
		"mode=/made/by": "drwxr-xr-x", "mode=/made/by/lade/file": "-rw-r--r--",
	})
	if b, err := os.ReadFile(vol + "/new"); string(b) != "x" || err != nil {
		t.Errorf("written in the container: %q, %v", b, err)
	}
	r := s.report(func() *Container {
		c := s.container("report")
		c.Spec.Mounts = append(c.Spec.Mounts, specs.Mount{Destination: "/ro", Type: "bind", Source: vol, Options: []string{"rbind", "ro", "nosuid", "noexec", "nodev"}})
		return c
	}())
	for _, o := range []string{"ro", "nosuid", "noexec", "nodev"} {
		if !slices.Contains(r.Mounts["/ro"].Options, o) {
			t.Errorf("/ro lacks %s: %v", o, r.Mounts["/ro"])
		}
	}
	for dest, m := range r.Mounts {
		for _, o := range m.Options {
			if strings.HasPrefix(o, "shared") || strings.HasPrefix(o, "master") {
				t.Errorf("%s spreads: %v", dest, m)
			}
		}
	}
}

// TestPropagation mounts on the host after the start and looks for it inside.
func TestPropagation(t *testing.T) {
	s := newSandbox(t)
	for how, want := range map[string]string{"rslave": "1", "rprivate": "0"} {
		vol := s.mkdir("vol-" + how)
		if err := unix.Mount(vol, vol, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(vol, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
		if err := unix.Mount("", vol, "", unix.MS_SHARED, ""); err != nil {
			t.Fatal(err)
		}
		s.mkdir("vol-" + how + "/later")
		c := s.container("sleep")
		c.Spec.Mounts = append(c.Spec.Mounts, specs.Mount{Destination: "/vol", Type: "bind", Source: vol, Options: []string{"rbind", how}})
		r, err := s.start(c)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount("tmpfs", vol+"/later", "tmpfs", 0, ""); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(vol+"/later/x", nil, 0o644); err != nil {
			t.Error(err)
		}
		e := c.Spec.Process
		e.Args = []string{payload, "try", "list=/vol/later"}
		if out, _ := s.exec(r, &Exec{Process: e}); strings.TrimSpace(out) != "list=/vol/later: "+want {
			t.Errorf("%s: %q", how, out)
		}
		r.end()
		if err := unix.Unmount(vol+"/later", unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	}
}

func TestDevices(t *testing.T) {
	s := newSandbox(t)
	c := s.container()
	mode, uid, gid := os.FileMode(0o640), uint32(7), uint32(8)
	c.Spec.Linux.Devices = []specs.LinuxDevice{
		{Path: "/dev/net/tun", Type: "c", Major: 10, Minor: 200, FileMode: &mode, UID: &uid, GID: &gid},
		{Path: "/dev/null", Type: "c", Major: 1, Minor: 3},
		{Path: "/dev/fifo", Type: "p"},
		{Path: "/elsewhere/zero", Type: "c", Major: 1, Minor: 5},
	}
	expect(t, s.tries(c, "stat=/dev/net/tun", "stat=/dev/null", "stat=/dev/zero", "stat=/dev/tty", "stat=/dev/urandom", "stat=/dev/full", "stat=/dev/fifo", "stat=/elsewhere/zero",
		"link=/dev/fd", "link=/dev/stdin", "link=/dev/stdout", "link=/dev/stderr", "link=/dev/ptmx", "mode=/dev/shm", "mode=/dev/pts", "append=/dev/null", "mode=/dev/console"),
		map[string]string{
			"stat=/dev/net/tun": "20640 10:200 7:8", "stat=/dev/null": "20666 1:3 0:0", "stat=/dev/zero": "20666 1:5 0:0", "stat=/dev/tty": "20666 5:0 0:0",
			"stat=/dev/urandom": "20666 1:9 0:0", "stat=/dev/full": "20666 1:7 0:0", "stat=/dev/fifo": "10666 0:0 0:0", "stat=/elsewhere/zero": "20666 1:5 0:0",
			"link=/dev/fd": "/proc/self/fd", "link=/dev/stdin": "/proc/self/fd/0", "link=/dev/stdout": "/proc/self/fd/1", "link=/dev/stderr": "/proc/self/fd/2",
			"link=/dev/ptmx": "pts/ptmx", "mode=/dev/shm": "dtrwxrwxrwx", "mode=/dev/pts": "drwxr-xr-x", "append=/dev/null": "ok",
			"mode=/dev/console": "error lstat /dev/console: no such file or directory",
		})
}

// TestHidden looks behind masks and at what must not be written.
func TestHidden(t *testing.T) {
	s := newSandbox(t)
	s.mkdir("image/secret/dir")
	s.file("image/secret/file", "secret", 0o644)
	s.file("image/secret/dir/file", "secret", 0o644)
	s.mkdir("image/fixed")
	c := s.container()
	c.Spec.Root.Readonly = true
	c.Spec.Linux.MaskedPaths = append(c.Spec.Linux.MaskedPaths, "/secret/file", "/secret/dir", "/no/such/path", "/abslink")
	c.Spec.Linux.ReadonlyPaths = append(c.Spec.Linux.ReadonlyPaths, "/tmp", "/no/such/path")
	got := s.tries(c, "read=/secret/file", "list=/secret/dir", "read=/etc/data", "write=/secret/dir/x", "write=/tmp/x", "write=/root-x", "append=/etc/passwd",
		"append=/proc/sys/kernel/panic", "list=/sys/firmware", "write=/dev/shm/x", "write=/dev/x", "append=/sys/fs/cgroup/memory/tasks")
	rofs := ": read-only file system"
	expect(t, got, map[string]string{
		"read=/secret/file": "", "list=/secret/dir": "0", "read=/etc/data": "", // through the link
		"write=/secret/dir/x": "error open /secret/dir/x" + rofs, "write=/tmp/x": "error open /tmp/x" + rofs,
		"write=/root-x": "error open /root-x" + rofs, "append=/etc/passwd": "error open /etc/passwd" + rofs,
		"append=/proc/sys/kernel/panic": "error open /proc/sys/kernel/panic" + rofs, "list=/sys/firmware": "0",
		"write=/dev/shm/x": "ok", "write=/dev/x": "ok",
	})
	if !strings.Contains(got["append=/sys/fs/cgroup/memory/tasks"], "read-only") && !strings.Contains(got["append=/sys/fs/cgroup/memory/tasks"], "no such") {
		t.Errorf("control groups: %q", got["append=/sys/fs/cgroup/memory/tasks"])
	}
}

// TestEscape has an image whose symbolic links lead out of it.
func TestEscape(t *testing.T) {
	s := newSandbox(t)
	outside := s.mkdir("outside")
	vol := s.mkdir("evil")
	for name, target := range map[string]string{
		"up": "../../../../../../../.." + outside, "abs": outside, "cwd": "/proc/self/cwd", "fd": "/proc/self/fd/3", "root": "/proc/1/root",
	} {
		if err := os.Symlink(target, filepath.Join(s.root, name)); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, filepath.Join(vol, name)); err != nil {
			t.Fatal(err)
		}
	}
	source := s.mkdir("source")
	for _, dest := range []string{"/up/m", "/abs/m", "/../../../../m", "/evil/up/m", "/evil/abs/m", "/proc/m", "/cwd/m", "/fd/m", "/root/m", "/evil/fd/m"} {
		c := s.container()
		c.Spec.Mounts = append(c.Spec.Mounts,
			specs.Mount{Destination: "/evil", Type: "bind", Source: vol, Options: []string{"rbind"}},
			specs.Mount{Destination: dest, Type: "bind", Source: source, Options: []string{"rbind"}})
		c.Spec.Process.Cwd = "/"
		c.Spec.Linux.Devices = []specs.LinuxDevice{{Path: dest + "-dev/x", Type: "c", Major: 1, Minor: 3}}
		if r, err := s.start(c); err == nil {
			r.wait()
			r.end()
		}
		if e, err := os.ReadDir(outside); err != nil || len(e) != 0 {
			t.Errorf("%s: made outside: %v, %v", dest, e, err)
		}
	}
	for _, cwd := range []string{"/fd", "/abs/new", "/up/new", "/root/new", "/proc/self/fd/7", "/proc/self/cwd"} {
		c := s.container("try", "wd=")
		c.Spec.Process.Cwd = cwd
		if r, err := s.start(c); err == nil {
			if out, _ := r.wait(); strings.Contains(out, "unreachable") {
				t.Errorf("%s: %q", cwd, out)
			}
			r.end()
		}
		if e, err := os.ReadDir(outside); err != nil || len(e) != 0 {
			t.Errorf("cwd %s: made outside: %v, %v", cwd, e, err)
		}
	}
}

// TestDangling mounts on a symbolic link whose target does not exist, as
// /etc/resolv.conf is in some images.
func TestDangling(t *testing.T) {
	s := newSandbox(t)
	if err := os.Remove(s.root + "/etc/resolv.conf"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../run/resolve/stub.conf", s.root+"/etc/resolv.conf"); err != nil {
		t.Fatal(err)
	}
	c := s.container()
	c.Spec.Mounts = append(c.Spec.Mounts, specs.Mount{Destination: "/etc/resolv.conf", Type: "bind", Source: s.file("r", "nameserver", 0o644), Options: []string{"rbind"}})
	expect(t, s.tries(c, "read=/etc/resolv.conf", "read=/run/resolve/stub.conf", "link=/etc/resolv.conf"), map[string]string{
		"read=/etc/resolv.conf": "nameserver", "read=/run/resolve/stub.conf": "nameserver", "link=/etc/resolv.conf": "../run/resolve/stub.conf",
	})
}

// TestDirectory starts from a directory instead of an overlay.
func TestDirectory(t *testing.T) {
	s := newSandbox(t)
	c := s.container()
	c.Rootfs = Rootfs{Path: s.root}
	c.Spec.Root.Readonly = true
	c.Spec.Process.Cwd = "/tmp"
	expect(t, s.tries(c, "write=/tmp/x", "wd"), map[string]string{"write=/tmp/x": "error open /tmp/x: read-only file system", "wd": "/tmp"})
	c = s.container()
	c.Rootfs = Rootfs{Path: s.root}
	expect(t, s.tries(c, "write=/tmp/x"), map[string]string{"write=/tmp/x": "ok"})
	if _, err := os.Stat(s.root + "/tmp/x"); err != nil {
		t.Error(err)
	}
}
