package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	linuxmount "lade/internal/linux/mount"
	"lade/internal/need"
	"lade/test/harness"
)

// TestFileServers keeps volumes on real servers of NFS, the kernel's, and of CIFS,
// Samba's: what containers write is on the server, what is mounted goes with the
// last of them, and what a server refuses is said.
func TestFileServers(t *testing.T) {
	need.Root(t)
	need.Program(t, "docker", "docker-cli")
	smb := harness.FreePort(t)
	cifs := func(share, password string) []string {
		return []string{"type=cifs", "device=//127.0.0.1/" + share, "o=port=" + smb + ",username=root,password=" + password + ",vers=3.0"}
	}
	for _, c := range []struct {
		name    string
		modules []string
		serve   func(t *testing.T, dir string)
		good    []string // options of the volume
		bad     map[string][]string
	}{
		{"nfs", []string{"nfsd", "nfsv4"}, serveNFS,
			[]string{"type=nfs", "device=:/", "o=addr=127.0.0.1,vers=4.2,soft"},
			map[string][]string{"no such file": {"type=nfs", "device=:/nowhere", "o=addr=127.0.0.1,vers=4.2,soft"}}},
		{"cifs", []string{"cifs"}, func(t *testing.T, dir string) { serveSMB(t, dir, smb) },
			cifs("share", smbPassword),
			map[string][]string{"permission denied": cifs("share", "not-"+smbPassword), "no such file": cifs("nowhere", smbPassword)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, m := range c.modules {
				if out, err := exec.Command("modprobe", m).CombinedOutput(); err != nil {
					t.Skipf("this kernel has no %s: %s", m, out)
				}
			}
			dir := t.TempDir()
			c.serve(t, dir)
			e := harness.Start(t)
			fileServer(t, e, dir, c.good, c.bad)
		})
	}
}

// fileServer uses a volume whose files a server has in dir.
func fileServer(t *testing.T, e *harness.Engine, dir string, good []string, bad map[string][]string) {
	docker := client(t, e)
	create := func(name string, options []string) {
		args := []string{"volume", "create"}
		for _, o := range options {
			args = append(args, "-o", o)
		}
		docker(append(args, name)...)
	}
	mounts := func() int {
		t.Helper()
		list, err := linuxmount.Below(e.Dir)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, m := range list {
			if strings.Contains(m, "/volumes/") {
				n++
			}
		}
		return n
	}
	create("shared", good)
	if n := mounts(); n != 0 {
		t.Errorf("%d mounts before anybody needs it", n)
	}
	docker("run", "-d", "--name", "one", "-v", "shared:/data", "lade/hello", "sh", "-c", "echo from one >/data/f; mkdir /data/d; sleep 1000")
	docker("run", "--rm", "--name", "two", "-v", "shared:/data", "lade/hello", "sh", "-c", "until [ -d /data/d ]; do sleep 0.1; done; cat /data/f; echo from two >>/data/f")
	if raw, err := os.ReadFile(filepath.Join(dir, "f")); err != nil || string(raw) != "from one\nfrom two\n" {
		t.Errorf("on the server: %q, %v", raw, err)
	}
	docker("cp", "one:/data/f", filepath.Join(e.Dir, "copy"))
	if n := mounts(); n != 1 {
		t.Errorf("%d mounts while a container runs", n)
	}
	e.Stop()
	e.Launch()
	if out := docker("exec", "one", "cat", "/data/f"); out != "from one\nfrom two\n" {
		t.Errorf("after the daemon was away: %q", out)
	}
	docker("rm", "-f", "one")
	if n := mounts(); n != 0 {
		t.Errorf("%d mounts after the last container", n)
	}
	docker("volume", "rm", "shared")
	if _, err := os.Stat(filepath.Join(dir, "f")); err != nil {
		t.Errorf("removing the volume removed a file of the server: %v", err)
	}
	n := 0
	for words, options := range bad {
		n++
		name := fmt.Sprint("bad", n)
		create(name, options)
		out, err := e.Command("docker", "run", "--rm", "-v", name+":/data", "lade/hello", "true").CombinedOutput()
		said := strings.ToLower(string(out))
		if err == nil || !strings.Contains(said, words) || !strings.Contains(said, "error while mounting volume") {
			t.Errorf("%v: %v\n%s, want %q", options, err, out, words)
		}
		if strings.Contains(said, smbPassword) || strings.Contains(e.Log(), smbPassword) {
			t.Errorf("the password is shown: %s\n%s", out, e.Log())
		}
		docker("volume", "rm", name)
	}
}

// runServer runs a program that a server needs, or that makes one.
func runServer(t *testing.T, name string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), need.Patience(60*time.Second))
	defer cancel()
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// background starts a program that is ended with the test.
func background(t *testing.T, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // killed
		if t.Failed() {
			t.Logf("%s: %s", name, said.String())
		}
	})
}

// onDisk mounts a file system that can be exported at dir: one of memory or an
// overlay cannot be opened by handle.
func onDisk(t *testing.T, dir string) {
	t.Helper()
	image := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 64<<20); err != nil {
		t.Fatal(err)
	}
	runServer(t, "mkfs.ext4", "-q", image)
	runServer(t, "mount", "-o", "loop", image, dir)
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount the served directory: %v", err)
		}
	})
}

// serveNFS exports dir by the kernel's server, version 4 alone.
func serveNFS(t *testing.T, dir string) {
	for _, p := range []string{"/usr/sbin/rpc.nfsd", "/usr/sbin/rpc.mountd", "/usr/sbin/exportfs"} {
		if _, err := os.Stat(p); err != nil {
			t.Skipf("this machine has no NFS server (nfs-kernel-server): %v", err)
		}
	}
	onDisk(t, dir)
	if err := os.MkdirAll("/var/lib/nfs/v4recovery", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll("/run/rpc_pipefs", 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat("/proc/fs/nfsd/threads"); err != nil {
		runServer(t, "mount", "-t", "nfsd", "nfsd", "/proc/fs/nfsd")
		t.Cleanup(func() {
			if err := unix.Unmount("/proc/fs/nfsd", unix.MNT_DETACH); err != nil {
				t.Errorf("unmount nfsd: %v", err)
			}
		})
	}
	runServer(t, "/usr/sbin/exportfs", "-i", "-o", "rw,no_root_squash,insecure,fsid=0,no_subtree_check", "127.0.0.1:"+dir)
	t.Cleanup(func() { runServer(t, "/usr/sbin/exportfs", "-u", "127.0.0.1:"+dir) })
	background(t, "/usr/sbin/rpc.mountd", "-F", "-N", "3")
	// No client can have held anything before: nobody needs to wait for that.
	if err := os.WriteFile("/proc/fs/nfsd/nfsv4gracetime", []byte("10"), 0o600); err != nil {
		t.Fatal(err)
	}
	runServer(t, "/usr/sbin/rpc.nfsd", "-N", "3", "-V", "4.2", "-H", "127.0.0.1", "2")
	t.Cleanup(func() { runServer(t, "/usr/sbin/rpc.nfsd", "0") })
}
