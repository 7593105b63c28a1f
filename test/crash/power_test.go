package crash

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"lade/internal/linux/loop"
	"lade/internal/need"
	"lade/internal/snapshot/snapshottest"
	"lade/test/harness"
)

// powerDisk is a disk whose power can be cut: an ext4 on a file that a btrfs can
// clone in one moment. What the clone has is what was written to the device by
// then. What only the page cache of the ext4 has, because nobody synced it, is
// lost, as when the power fails.
type powerDisk struct {
	t     *testing.T
	below string // the btrfs
	dir   string // where the ext4 is mounted
	cuts  int
	block string // the name of its device
}

func newPowerDisk(t *testing.T, size int64) *powerDisk {
	t.Helper()
	below := snapshottest.Disk{Type: "btrfs", Mkfs: []string{"mkfs.btrfs", "-q"}, From: "btrfs-progs", Size: 4 * size}.Mount(t)
	d := &powerDisk{t: t, below: below, dir: filepath.Join(t.TempDir(), "disk")}
	mkfs := need.Program(t, "mkfs.ext4", "Debian's e2fsprogs")
	if err := os.Mkdir(d.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(d.path("disk"))
	if err == nil {
		err = f.Truncate(size)
	}
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if out, err := exec.Command(mkfs, "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", d.path("disk")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	d.mount("disk")
	t.Cleanup(func() { d.unmount() })
	return d
}

func (d *powerDisk) path(name string) string { return filepath.Join(d.below, name) }

// mount mounts one of the files, which replays its journal.
func (d *powerDisk) mount(name string) {
	d.t.Helper()
	f, err := os.OpenFile(d.path(name), os.O_RDWR, 0)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	device, err := loop.Attach(f)
	if err != nil {
		d.t.Fatal(err)
	}
	defer device.Close()
	d.block = filepath.Base(device.Name())
	if err := unix.Mount(device.Name(), d.dir, "ext4", 0, "errors=remount-ro"); err != nil {
		d.t.Fatal(err)
	}
}

func (d *powerDisk) unmount() {
	d.t.Helper()
	snapshottest.Unmount(d.t, d.dir)
}

// cut keeps what a power cut now would leave, under a name for mount.
func (d *powerDisk) cut() string {
	d.t.Helper()
	d.cuts++
	name := fmt.Sprint("cut", d.cuts)
	from, err := os.Open(d.path("disk"))
	if err != nil {
		d.t.Fatal(err)
	}
	defer from.Close()
	to, err := os.Create(d.path(name))
	if err != nil {
		d.t.Fatal(err)
	}
	defer to.Close()
	if err := unix.IoctlFileClone(int(to.Fd()), int(from.Fd())); err != nil {
		d.t.Fatal(err)
	}
	return name
}

// promises are what the engine has acknowledged: what must be there, and what
// must not.
type promises struct {
	mu          sync.Mutex
	there, gone []string // "container NAME", "volume NAME", "image NAME"
}

// keep notes an answer. A thing that was asked to go, and of which no answer has
// come yet, is in doubt.
func (p *promises) keep(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.there = append(p.there, what)
}

func (p *promises) doubt(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.there = slices.DeleteFunc(p.there, func(s string) bool { return s == what })
}

func (p *promises) lose(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone = append(p.gone, what)
}

// now returns what holds at this moment, in copies.
func (p *promises) now() (there, gone []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.there), slices.Clone(p.gone)
}

// TestPowerCut cuts the power of the disk while requests are answered, and
// starts the engine from what is left: what was acknowledged is there, what was
// removed is not, and every reference holds.
func TestPowerCut(t *testing.T) {
	need.Root(t)
	_, long := soak(t, 0)
	cuts := 3
	if long {
		cuts = 100
	}
	d := newPowerDisk(t, 384<<20)
	t.Setenv("TMPDIR", d.dir)
	e := harness.Start(t)
	img := e.Import()
	var p promises
	p.keep("image " + img)

	stop := make(chan struct{})
	var clients sync.WaitGroup
	for c := range 2 {
		clients.Go(func() {
			ok := true
			do := func(args ...string) {
				if _, stderr, code := e.Try(args...); code != 0 {
					t.Errorf("%q: exit code %d, %s", args, code, stderr)
					ok = false
				}
			}
			for i := 0; ok; i++ {
				select {
				case <-stop:
					return
				default:
				}
				id := fmt.Sprintf("c%d-%d", c, i)
				do("create", "--name", id, "-v", "v"+id+":/data", img, "true")
				p.keep("container " + id)
				p.keep("volume v" + id)
				switch i % 4 {
				case 0:
					do("tag", img, "tagged:"+id)
					p.keep("image tagged:" + id)
				case 1:
					do("commit", id, "committed:"+id)
					p.keep("image committed:" + id)
				case 2:
					p.doubt("container " + id)
					do("rm", id)
					p.lose("container " + id)
				}
			}
		})
	}
	type cut struct {
		name        string
		there, gone []string
	}
	var all []cut
	for n := range cuts {
		want := 6 * (n + 1) // a cut now and then: after so many more answers
		soon(t, func() error {
			if there, gone := p.now(); len(there)+len(gone) < want {
				return fmt.Errorf("%d answers of %d", len(there)+len(gone), want)
			}
			return nil
		})
		there, gone := p.now()
		all = append(all, cut{d.cut(), there, gone})
	}
	close(stop)
	clients.Wait()
	e.Stop()
	d.unmount()
	for i, c := range all {
		d.mount(c.name)
		// What was on a tmpfs is gone, too.
		if err := os.RemoveAll(filepath.Join(e.Dir, "exec")); err != nil {
			t.Fatal(err)
		}
		e.Launch()
		has := map[string]bool{}
		for kind, list := range map[string][]string{
			"container": {"ps", "-a", "--format", "{{.Names}}"}, "volume": {"volume", "ls", "-q"}, "image": {"images", "--format", "{{.Repository}}:{{.Tag}}"},
		} {
			for name := range strings.FieldsSeq(e.Run(list...)) {
				has[kind+" "+name] = true
			}
		}
		for _, what := range c.there {
			if kind, name, _ := strings.Cut(what, " "); !has[what] && !has[kind+" "+name+":latest"] {
				t.Errorf("%s: %s was acknowledged and is lost", c.name, what)
			}
		}
		for _, what := range c.gone {
			if has[what] {
				t.Errorf("%s: %s is back", c.name, what)
			}
		}
		for _, what := range c.there { // layers, snapshots and volumes are whole
			if name, is := strings.CutPrefix(what, "container "); is {
				e.Run("start", "-a", name)
				break
			}
		}
		e.Stop()
		if out, err := e.Check(); err != nil {
			t.Errorf("%s: %v\n%s", c.name, err, out)
		}
		if i < len(all)-1 {
			d.unmount()
		}
	}
	t.Logf("%d cuts; at the last %d things were there", len(all), len(all[len(all)-1].there))
}
