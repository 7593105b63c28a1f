package volume

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/volume"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/mount"
	"lade/internal/need"
)

// TestOptions: what cannot be is refused in Docker's words, and nothing is made.
func TestOptions(t *testing.T) {
	v := fresh(t, t.TempDir())
	for _, c := range []struct{ options, want string }{
		{"type=tmpfs", `missing required option: "device"`},
		{"device=tmpfs", `missing required option: "type"`},
		{"o=size=1m", `missing required option: "device"`},
		{"colour=red", `invalid option: "colour"`},
		{"o=uid=x", `invalid option "uid=x": want a number`},
		{"type=none;o=bind;device=rel", `invalid device "rel": the source of a bind must be an absolute path`},
		{"type=none;o=bind,uid=7;device=/srv", `invalid option "uid=7": a bind has no file system of its own to set it for`},
	} {
		_, _, err := v.Create(t.Context(), volume.CreateRequest{Name: "xx", DriverOpts: options(c.options)})
		if errdefs.KindOf(err) != errdefs.Invalid || err.Error() != "create xx: "+c.want {
			t.Errorf("%s: %v", c.options, err)
		}
	}
	if len(v.List()) != 0 {
		t.Error("a refused volume was created")
	}
}

func options(s string) map[string]string {
	out := map[string]string{}
	for o := range strings.SplitSeq(s, ";") {
		k, val, _ := strings.Cut(o, "=")
		out[k] = val
	}
	return out
}

// create makes a volume and takes away its mount when the test ends.
func create(t *testing.T, v *Volumes, name, o string) string {
	t.Helper()
	vol, _, err := v.Create(t.Context(), volume.CreateRequest{Name: name, DriverOpts: options(o)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mount.Detach(vol.Mountpoint) })
	return vol.Mountpoint
}

func isMounted(t *testing.T, path string) bool {
	t.Helper()
	points, err := mount.Below(path)
	if err != nil {
		t.Fatal(err)
	}
	return len(points) > 0
}

// TestMount follows a tmpfs through its users, a restart and a removal.
func TestMount(t *testing.T) {
	need.Root(t)
	dir := t.TempDir()
	v := fresh(t, dir)
	ctx := t.Context()
	at := create(t, v, "mm", "type=tmpfs;device=tmpfs;o=size=64k,uid=7,mode=0750,ro")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	if isMounted(t, at) {
		t.Error("mounted before anybody uses it")
	}
	must(v.Mount(ctx, "mm", "a"))
	must(v.Mount(ctx, "mm", "b"))
	must(v.Mount(ctx, "mm", "a"))
	var st unix.Stat_t
	must(unix.Stat(at, &st))
	if st.Uid != 7 || st.Mode&0o7777 != 0o750 {
		t.Errorf("owner %d, mode %o", st.Uid, st.Mode)
	}
	if err := os.WriteFile(at+"/f", nil, 0o600); !errors.Is(err, unix.EROFS) {
		t.Errorf("read-only: %v", err)
	}
	v.Unmount("mm", "a")
	v.Unmount("mm", "nobody")
	if !isMounted(t, at) {
		t.Error("taken from under b")
	}
	// The engine dies; b lives on, then dies while no engine is there.
	again, err := New(v.dir, v.store, v.log)
	must(err)
	must(again.Recover(map[string][]string{"mm": {"b"}}))
	if !isMounted(t, at) {
		t.Error("recovery took it from under b")
	}
	again.Unmount("mm", "b")
	if isMounted(t, at) {
		t.Error("nobody uses it, and it is still mounted")
	}
	must(again.Mount(ctx, "mm", "c"))
	third, err := New(v.dir, v.store, v.log)
	must(err)
	must(third.Recover(nil))
	if isMounted(t, at) {
		t.Error("recovery left what nobody uses")
	}
}

// TestRemoveBind: whatever goes wrong, removing a volume deletes no file of the
// directory that it showed.
func TestRemoveBind(t *testing.T) {
	need.Root(t)
	dir, host := t.TempDir(), t.TempDir()
	v := fresh(t, dir)
	if err := os.WriteFile(filepath.Join(host, "f"), []byte("keep"), 0o600); err != nil {
		t.Fatal(err)
	}
	at := create(t, v, "bb", "type=none;o=bind;device="+host)
	if err := v.Mount(t.Context(), "bb", "forgotten"); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(at + "/f"); string(got) != "keep" {
		t.Errorf("%q, %v", got, err)
	}
	if err := v.Remove(t.Context(), "bb", false); err != nil {
		t.Fatal(err)
	}
	v.Close()
	if got, err := os.ReadFile(filepath.Join(host, "f")); string(got) != "keep" {
		t.Fatalf("the host's file is gone: %v", err)
	}
	if left, _ := os.ReadDir(v.dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestMountErrors: a refusal names what was to be mounted, in Docker's words and
// with the kernel's reason.
func TestMountErrors(t *testing.T) {
	need.Root(t)
	v := fresh(t, t.TempDir())
	for name, c := range map[string]struct{ options, want string }{
		"nodir":  {"type=none;o=bind;device=/nonexist", "failed to mount local volume: mount /nonexist:%s, data: bind: no such file or directory"},
		"nofs":   {"type=nosuchfs;device=x", "failed to mount local volume: mount x:%s: no such device"},
		"bad":    {"type=tmpfs;device=tmpfs;o=size=x", "failed to mount local volume: mount tmpfs:%s, data: size=x: invalid argument (tmpfs: Bad value for 'size')"},
		"secret": {"type=nosuchfs;device=x;o=username=me,password=word", "failed to mount local volume: mount x:%s, data: username=me,password=********: no such device"},
		"nfs":    {"type=nfs;device=:/x", "no address of the server in the options of the volume (addr=)"},
	} {
		at := create(t, v, name, c.options)
		err := v.Mount(t.Context(), name, "u")
		want := c.want
		if strings.Contains(want, "%s") {
			want = fmt.Sprintf(want, at)
		}
		if want = "error while mounting volume '" + at + "': " + want; err == nil || err.Error() != want {
			t.Errorf("%s: %v\nwant %s", name, err, want)
		}
		if isMounted(t, at) {
			t.Errorf("%s is mounted", name)
		}
	}
}

// TestAddress: the kernel is given the address of a file server, not its name.
func TestAddress(t *testing.T) {
	for _, c := range []struct{ kind, device, data, want string }{
		{"nfs", ":/x", "addr=127.0.0.1,vers=4", "vers=4,addr=127.0.0.1"},
		{"nfs4", "localhost:/x", "soft", "soft,addr=127.0.0.1"},
		{"nfs", "[::1]:/x", "", "addr=::1"},
		{"cifs", "//127.0.0.2/share", "username=u", "username=u,ip=127.0.0.2"},
		{"cifs", "//x/share", "addr=127.0.0.3", "addr=127.0.0.3"},
		{"ext4", "/dev/x", "noatime,errors=panic", "errors=panic"},
	} {
		s := source{kind: c.kind, device: c.device, data: c.data}
		got, err := s.withAddress(t.Context(), mount.Parse(strings.Split(c.data, ",")))
		joined := strings.Join(got, ",")
		if joined == "soft,addr=::1" {
			joined = "soft,addr=127.0.0.1" // what localhost is first differs
		}
		if err != nil || joined != c.want {
			t.Errorf("%+v: %q, %v", c, joined, err)
		}
	}
}

// TestMountWaits: a server that does not answer holds nobody beyond their time.
func TestMountWaits(t *testing.T) {
	need.Root(t)
	v := fresh(t, t.TempDir())
	create(t, v, "mm", "type=tmpfs;device=tmpfs")
	held := v.mount("mm")
	held.turn <- struct{}{} // somebody else is waiting for the kernel
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := v.Mount(ctx, "mm", "u"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	<-held.turn
}
