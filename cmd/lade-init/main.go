package main

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

// prSetChildSubreaper is PR_SET_CHILD_SUBREAPER of <linux/prctl.h>.
const prSetChildSubreaper = 36

func main() { os.Exit(run(os.Args[1:])) }

func say(s string) { os.Stderr.WriteString("[lade-init] " + s + "\n") }

func run(args []string) int {
	group, control := false, false
	for len(args) > 0 && args[0] != "" && args[0][0] == '-' {
		flag := args[0]
		args = args[1:]
		if flag == "--" {
			break
		}
		if flag == "-g" {
			group = true
		}
		switch flag {
		case "--hold":
			return hold()
		case "--tty":
			control = true
		}
	}
	if len(args) == 0 {
		say("no command")
		return 1
	}
	if control {
		return controlling(args)
	}
	if os.Getpid() != 1 {
		// Orphans would be those of process 1, which is another container's or the
		// host's (--pid): prctl(2). It cannot fail.
		_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, prSetChildSubreaper, 1, 0)
	}
	// Before the child exists, so that none of its signals is missed.
	signals, ended := make(chan os.Signal, 64), make(chan os.Signal, 1)
	signal.Notify(signals)
	// On a channel of its own, where one that finds it full changes nothing.
	signal.Notify(ended, syscall.SIGCHLD)

	ready()

	path, err := exec.LookPath(args[0])
	if err != nil && !errors.Is(err, exec.ErrDot) {
		return failed(args[0], err)
	}
	attr := &syscall.SysProcAttr{Setpgid: true}
	if terminal() {
		attr.Foreground, attr.Ctty = true, 0
	}
	child, err := syscall.ForkExec(path, args, &syscall.ProcAttr{Env: os.Environ(), Files: []uintptr{0, 1, 2}, Sys: attr})
	if err != nil {
		return failed(args[0], err)
	}
	to := child
	if group {
		to = -child
	}
	for {
		select {
		case <-ended:
			if code, done := reap(child); done {
				return code
			}
		case s := <-signals:
			// SIGURG is the Go runtime's own. A child that has just ended is told
			// by SIGCHLD.
			if sig, ok := s.(syscall.Signal); ok && sig != syscall.SIGURG && sig != syscall.SIGCHLD {
				_ = syscall.Kill(to, sig)
			}
		}
	}
}

// ready tells who waits for it, on descriptor 3, that signals are passed on from
// now on. Others give us no pipe there.
func ready() {
	const fd = 3
	var st syscall.Stat_t
	if syscall.Fstat(fd, &st) != nil || st.Mode&syscall.S_IFMT != syscall.S_IFIFO {
		return
	}
	_, _ = syscall.Write(fd, []byte{1}) // nobody waits any more
	_ = syscall.Close(fd)
}

// controlling makes the terminal on standard input the session's and executes
// the command in its own place. It returns only if that fails.
func controlling(args []string) int {
	_, _ = syscall.Setsid() // EPERM: it leads a session already
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, 0, syscall.TIOCSCTTY, 0); errno != 0 {
		say("terminal: " + errno.Error())
	}
	path, err := exec.LookPath(args[0])
	if err == nil || errors.Is(err, exec.ErrDot) {
		err = syscall.Exec(path, args, os.Environ())
	}
	return failed(args[0], err)
}

// hold does nothing until the end of standard input.
func hold() int {
	var buf [16]byte
	for {
		if n, err := os.Stdin.Read(buf[:]); n == 0 || err != nil {
			return 0
		}
	}
}

// terminal reports whether standard input is a terminal.
func terminal() bool {
	st, err := os.Stdin.Stat()
	if err != nil || st.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	f, err := os.OpenFile("/dev/tty", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return false
	}
	return f.Close() == nil
}

// reap waits for everything that has ended and tells whether the command has,
// and how.
func reap(child int) (code int, ended bool) {
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return code, ended
		}
		if pid != child {
			continue
		}
		switch {
		case ws.Exited():
			code, ended = ws.ExitStatus(), true
		case ws.Signaled():
			code, ended = 128+int(ws.Signal()), true
		}
	}
}

func failed(command string, err error) int {
	errno := err
	for u := errors.Unwrap(errno); u != nil; u = errors.Unwrap(errno) {
		errno = u
	}
	say("exec " + command + " failed: " + errno.Error())
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.ENOEXEC) {
		return 126
	}
	return 127
}
