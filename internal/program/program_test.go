package program

import (
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestMain makes the test binary a payload of programs: with PAYLOAD=n in its
// environment it exits with status 40+n.
func TestMain(m *testing.M) {
	if v := os.Getenv("PAYLOAD"); v != "" {
		os.Exit(40 + int(v[0]-'0'))
	}
	os.Exit(m.Run())
}

var none = Options{Cgroup: -1, PidNS: -1}

func newProgram(t testing.TB, m Memory) *Program {
	t.Helper()
	p, err := New(m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func self(t testing.TB) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

// reap waits for the child and returns its status.
func reap(t testing.TB, r Result) unix.WaitStatus {
	t.Helper()
	var ws unix.WaitStatus
	for {
		_, err := unix.Wait4(r.Pid, &ws, 0, nil)
		if err == nil {
			break
		}
		if err != unix.EINTR {
			t.Errorf("wait4(%d): %v", r.Pid, err)
			break
		}
	}
	if r.Pidfd >= 0 {
		unix.Close(r.Pidfd)
	}
	return ws
}

func (p *Program) exec(path, payload string) Op {
	return p.Sys("execve", path, unix.SYS_EXECVE, p.String(path), p.Strings([]string{"payload"}), p.Strings([]string{"PAYLOAD=" + payload}))
}

func (p *Program) exit(code uint64) Op { return p.Sys("exit", "", unix.SYS_EXIT_GROUP, code) }

func TestRun(t *testing.T) {
	p := newProgram(t, Vfork)
	exe := self(t)
	for i := range 3 { // the arena is used again
		p.Reset()
		p.Sys("getpid", "", unix.SYS_GETPID)
		p.exec(exe, string(rune('0'+i)))
		r, err := p.Run(none)
		if err != nil {
			t.Fatal(err)
		}
		if r.Took <= 0 {
			t.Errorf("Took = %v", r.Took)
		}
		steps := slices.Collect(p.Steps())
		if len(steps) != 3 || steps[0].Call != "clone3" || steps[2].Call != "execve" || steps[2].Took <= 0 {
			t.Errorf("Steps = %v", steps)
		}
		if got := p.a.ops[0].result; int(got) != r.Pid {
			t.Errorf("the child's getpid = %d, clone3 says %d", got, r.Pid)
		}
		if ws := reap(t, r); ws.ExitStatus() != 40+i {
			t.Errorf("exit status %d, want %d", ws.ExitStatus(), 40+i)
		}
	}
}

func TestFailure(t *testing.T) {
	p := newProgram(t, Vfork)
	p.Sys("getpid", "", unix.SYS_GETPID)
	p.Sys("chdir", "/nonexistent", unix.SYS_CHDIR, p.String("/nonexistent"))
	p.exit(0)
	r, err := p.Run(none)
	oe, ok := errors.AsType[*OpError](err)
	if !ok || oe.Index != 1 || oe.Errno != unix.ENOENT || oe.Error() != "chdir /nonexistent: no such file or directory" {
		t.Errorf("err = %v", err)
	}
	if ws := reap(t, r); ws.ExitStatus() != 253 {
		t.Errorf("status %d", ws.ExitStatus())
	}
	if !errors.Is(err, unix.ENOENT) {
		t.Error("the errno is not in the chain")
	}
}

// TestDenied: a filter that denies whatever is asked for, even exit_group(2), ends
// the child, and the caller learns what failed: it waits in vfork(2).
func TestDenied(t *testing.T) {
	// A process that dumps its core takes those along that share its memory, before
	// Linux 5.16. Who runs programs is not dumpable.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0); err != nil {
			t.Error(err)
		}
	}()
	p := newProgram(t, Vfork)
	code := make([]byte, unsafe.Sizeof(unix.SockFilter{}))
	binary.NativeEndian.PutUint16(code, unix.BPF_RET|unix.BPF_K)
	binary.NativeEndian.PutUint32(code[4:], unix.SECCOMP_RET_ERRNO|uint32(unix.EPERM))
	p.Sys("prctl", "PR_SET_NO_NEW_PRIVS", unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	p.Sys("seccomp", "", unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, p.Words(1, p.Bytes(code)))
	p.exec(self(t), "1")
	r, err := p.Run(none)
	if oe, ok := errors.AsType[*OpError](err); !ok || oe.Index != 2 || oe.Errno != unix.EPERM {
		t.Errorf("err = %v", err)
	}
	if ws := reap(t, r); !ws.Signaled() || ws.Signal() != unix.SIGILL {
		t.Errorf("status %x", ws)
	}
}

func TestLastOpReturns(t *testing.T) {
	p := newProgram(t, Vfork)
	p.exec("/nonexistent", "0").Allow(unix.ENOENT)
	r, err := p.Run(none)
	reap(t, r)
	if oe, ok := errors.AsType[*OpError](err); !ok || oe.Errno != unix.ENOENT {
		t.Errorf("err = %v", err)
	}
}

func TestClone3Refused(t *testing.T) {
	p := newProgram(t, Vfork)
	p.exit(0)
	_, err := p.Run(Options{Flags: unix.CLONE_THREAD, Cgroup: -1, PidNS: -1})
	if oe, ok := errors.AsType[*OpError](err); !ok || oe.Index != -1 || oe.Errno != unix.EINVAL {
		t.Errorf("err = %v", err)
	}
}

func TestTooLong(t *testing.T) {
	p := newProgram(t, Vfork)
	p.Bytes(make([]byte, dataSize+1))
	p.exit(0)
	if _, err := p.Run(none); !errors.Is(err, ErrTooLong) {
		t.Errorf("err = %v", err)
	}
	p.Reset()
	for range maxOps + 1 {
		p.exit(0)
	}
	if _, err := p.Run(none); !errors.Is(err, ErrTooLong) {
		t.Errorf("err = %v", err)
	}
	p.Reset()
	p.exec(self(t), "2")
	r, err := p.Run(none)
	if err != nil || reap(t, r).ExitStatus() != 42 {
		t.Errorf("after Reset: %v", err)
	}
}

// TestKilled ends a child in the middle of a program: that is no success.
func TestKilled(t *testing.T) {
	p := newProgram(t, Vfork)
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	p.Sys("write", "ready", unix.SYS_WRITE, uint64(fds[1]), p.Words(0), 1)
	p.Sys("nanosleep", "", unix.SYS_NANOSLEEP, p.Words(60, 0), 0)
	p.exec(self(t), "0")
	type out struct {
		r   Result
		err error
	}
	done := make(chan out, 1)
	go func() {
		r, err := p.Run(none)
		done <- out{r, err}
	}()
	var b [1]byte
	if _, err := unix.Read(fds[0], b[:]); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(int(int32(p.a.tid)), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	o := <-done
	if !errors.Is(o.err, ErrKilled) {
		t.Errorf("err = %v", o.err)
	}
	if ws := reap(t, o.r); ws.Signal() != unix.SIGKILL {
		t.Errorf("status %v", ws)
	}
}

// fork runs a program that ends in exit in an ordinary child made by clone(2),
// which every emulator knows, and returns its exit status.
func (p *Program) fork(t *testing.T) int {
	t.Helper()
	p.arm(none, 0)
	p.b.cloneNr, p.b.cloneArg0, p.b.cloneArg1 = unix.SYS_CLONE, uint64(unix.SIGCHLD), 0
	start(p.b)
	r, err := p.collect()
	if err != nil {
		t.Fatal(err)
	}
	return reap(t, r).ExitStatus()
}

// TestInterpret tries what ops can do.
func TestInterpret(t *testing.T) {
	p := newProgram(t, Parked)
	t.Run("patch", func(t *testing.T) {
		p.Reset()
		// The pid of the child becomes the argument of two later ops.
		g := p.Sys("getpid", "", unix.SYS_GETPID)
		k1 := p.Sys("kill", "", unix.SYS_KILL, 0, 0)
		k2 := p.Sys("kill", "", unix.SYS_KILL, 0, 0)
		g.Into(k1, 0).Into(k2, 0)
		p.exit(7)
		if st := p.fork(t); st != 7 {
			t.Fatalf("status %d, %v", st, p.outcome())
		}
		for _, k := range []Op{k1, k2} {
			if got, want := p.a.ops[k.i].args[0], p.a.ops[g.i].result; got != uint64(want) || want == 0 {
				t.Errorf("argument %d, want %d", got, want)
			}
		}
	})
	t.Run("allowed", func(t *testing.T) {
		p.Reset()
		a := p.Sys("chdir", "", unix.SYS_CHDIR, p.String("/nonexistent")).Allow(unix.EPERM, unix.ENOENT)
		p.Sys("socket", "", unix.SYS_SOCKET, 9999, 0, 0).Allow(unix.EAFNOSUPPORT) // beyond 64
		p.exit(8)
		if st := p.fork(t); st != 8 {
			t.Fatalf("status %d, %v", st, p.outcome())
		}
		if p.Errno(a.i) != unix.ENOENT {
			t.Errorf("Errno = %v", p.Errno(a.i))
		}
	})
	t.Run("not allowed", func(t *testing.T) {
		p.Reset()
		p.Sys("chdir", "", unix.SYS_CHDIR, p.String("/nonexistent")).Allow(unix.EPERM)
		p.exit(8)
		if st := p.fork(t); st != 253 {
			t.Fatalf("status %d", st)
		}
		if err := p.outcome(); !errors.Is(err, unix.ENOENT) {
			t.Error(err)
		}
		p.Reset()
		p.Sys("socket", "", unix.SYS_SOCKET, 9999, 0, 0).Allow(unix.EAFNOSUPPORT & 63)
		p.exit(8)
		if st := p.fork(t); st != 253 {
			t.Fatalf("errno 97 passed for 33: status %d", st)
		}
	})
	t.Run("jumps", func(t *testing.T) {
		p.Reset()
		s := p.Sys("getpid", "", unix.SYS_GETPID)
		p.exit(1)
		s.ThenNext()
		f := p.Sys("chdir", "", unix.SYS_CHDIR, p.String("/nonexistent")).Allow(unix.ENOENT)
		p.exit(2)
		f.ElseNext()
		p.exit(9)
		if st := p.fork(t); st != 9 {
			t.Errorf("status %d", st)
		}
	})
	t.Run("retry", func(t *testing.T) {
		p.Reset()
		var fds [2]int
		if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fds[0])
		defer unix.Close(fds[1])
		o := p.Sys("read", "", unix.SYS_READ, uint64(fds[0]), Address(p.Space(8)), 1).Retry(5).Allow(unix.EAGAIN)
		p.exit(10)
		if st := p.fork(t); st != 10 {
			t.Errorf("status %d", st)
		}
		if left := p.a.ops[o.i].retries; left != 0 {
			t.Errorf("%d retries left", left)
		}
	})
	t.Run("times", func(t *testing.T) {
		p.Reset()
		p.Sys("nanosleep", "", unix.SYS_NANOSLEEP, p.Words(0, 20_000_000), 0)
		p.exit(11)
		if st := p.fork(t); st != 11 {
			t.Errorf("status %d", st)
		}
		// The forking caller does not wait: only the order can be checked here.
		if b := p.b; b.began == 0 || b.entered < b.began || p.a.ops[0].time <= b.entered {
			t.Errorf("began %d, entered %d, op %d", b.began, b.entered, p.a.ops[0].time)
		}
	})
	t.Run("signals", func(t *testing.T) {
		p.Reset()
		old := p.Space(8)
		p.Sys("rt_sigprocmask", "", unix.SYS_RT_SIGPROCMASK, 0, 0, Address(old), 8)
		p.exit(12)
		if st := p.fork(t); st != 12 {
			t.Errorf("status %d", st)
		}
		const kill, stop = 1 << (9 - 1), 1 << (19 - 1)
		var mask uint64
		for i, b := range old {
			mask |= uint64(b) << (8 * i)
		}
		if mask|kill|stop != ^uint64(0) {
			t.Errorf("the child's signal mask is %x", mask)
		}
	})
}

// TestARM64 runs TestInterpret compiled for arm64 in an emulator, which keeps
// some signals and clone3 to itself.
func TestARM64(t *testing.T) {
	qemu, err := exec.LookPath("qemu-aarch64-static")
	if err != nil || runtime.GOARCH == "arm64" {
		t.Skip("needs qemu-aarch64-static (Debian's qemu-user-static) on another architecture")
	}
	bin := filepath.Join(t.TempDir(), "arm64.test")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", bin, ".")
	build.Env = append(os.Environ(), "GOARCH=arm64", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := exec.CommandContext(t.Context(), qemu, bin, "-test.v", "-test.run=^TestInterpret$", "-test.skip=/signals").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestSpawn parks a child and lets it go on.
func TestSpawn(t *testing.T) {
	p := newProgram(t, Parked)
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fds[1])
	defer unix.Close(fds[0])
	p.Sys("getpid", "", unix.SYS_GETPID)
	park := p.Sys("read", "", unix.SYS_READ, uint64(fds[0]), Address(p.Space(8)), 1)
	p.exec(self(t), "3")
	r, err := p.Spawn(none)
	if err != nil {
		t.Fatal(err)
	}
	for {
		i, err := p.Progress()
		if err != nil {
			t.Fatal(err)
		}
		if i == park.Index() {
			break
		}
		runtime.Gosched()
	}
	if _, err := unix.Write(fds[1], []byte{0}); err != nil {
		t.Fatal(err)
	}
	if ws := reap(t, r); ws.ExitStatus() != 43 {
		t.Errorf("status %d", ws.ExitStatus())
	}
}

// TestCollector starts many children while the collector and preemption are
// as busy as they get.
func TestCollector(t *testing.T) {
	stop := make(chan struct{})
	var noise, wg sync.WaitGroup
	for range 2 {
		noise.Go(func() {
			var keep [][]byte
			for {
				select {
				case <-stop:
					runtime.KeepAlive(keep)
					return
				default:
					keep = append(keep[:len(keep)%1000], make([]byte, 512))
				}
			}
		})
	}
	noise.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				runtime.GC()
			}
		}
	})
	n := 100
	if testing.Short() {
		n = 10
	}
	for g := range 8 {
		wg.Go(func() {
			p := newProgram(t, Vfork)
			for i := range n {
				p.Reset()
				fail := (i+g)%7 == 0
				if fail {
					p.Sys("chdir", "", unix.SYS_CHDIR, p.String("/nonexistent"))
				}
				p.Sys("getpid", "", unix.SYS_GETPID)
				p.exit(21)
				r, err := p.Run(none)
				ws := reap(t, r)
				if fail && (!errors.Is(err, unix.ENOENT) || ws.ExitStatus() != 253) || !fail && (err != nil || ws.ExitStatus() != 21) {
					t.Errorf("%v, status %d", err, ws.ExitStatus())
				}
			}
		})
	}
	wg.Wait()
	close(stop)
	noise.Wait()
}

// TestOOMScore shows that a vforked child's oom_score_adj stays its own.
func TestOOMScore(t *testing.T) {
	before, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil {
		t.Fatal(err)
	}
	p := newProgram(t, Vfork)
	o := p.Sys("open", "", unix.SYS_OPENAT, ^uint64(99), p.String("/proc/self/oom_score_adj"), unix.O_WRONLY)
	w := p.Sys("write", "", unix.SYS_WRITE, 0, p.String("300"), 3)
	o.Into(w, 0)
	p.exit(5)
	r, err := p.Run(none)
	if err != nil {
		t.Fatal(err)
	}
	reap(t, r)
	after, err := os.ReadFile("/proc/self/oom_score_adj")
	if err != nil || string(after) != string(before) {
		t.Errorf("%q became %q, %v", before, after, err)
	}
}

func BenchmarkRun(b *testing.B) {
	p := newProgram(b, Vfork)
	for b.Loop() {
		p.Reset()
		p.exit(0)
		r, err := p.Run(none)
		if err != nil {
			b.Fatal(err)
		}
		reap(b, r)
	}
}
