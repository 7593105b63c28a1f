package lxc

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"lade/internal/runtime"
)

// The log's lines: name, time, level, subsystem, then "file:function:line - "
// and the message, which begins with the errno's text where there is one.

// failed returns why the container could not be started, or nil if it was.
func (c *Container) failed() error {
	raw, err := os.ReadFile(c.b.Path(fileLog))
	if err != nil {
		return err
	}
	if !strings.Contains(string(raw), "Failed to spawn container") {
		return nil
	}
	return explain(string(raw))
}

// failure is failed for a start that has failed for certain.
func (c *Container) failure() error {
	raw, err := os.ReadFile(c.b.Path(fileLog))
	if err != nil {
		return &runtime.StartError{Code: runtime.Failed, Op: "runtime " + c.b.Runtime.Name + " has ended without a word"}
	}
	return explain(string(raw))
}

// explain finds the first error of a log: the later ones follow from it.
func explain(log string) *runtime.StartError {
	e := &runtime.StartError{Code: runtime.Failed, Op: "lxc-start failed"}
	for line := range strings.Lines(log) {
		if !strings.Contains(line, " ERROR ") {
			continue
		}
		_, msg, ok := strings.Cut(line, " - ")
		if !ok {
			continue
		}
		if _, after, ok := strings.Cut(msg, " - "); ok { // past the place in LXC's source
			msg = after
			if cause, what, ok := strings.Cut(after, " - "); ok {
				msg = what + ": " + cause
			}
		}
		msg = strings.TrimSpace(msg)
		e.Op = msg
		command := strings.Contains(line, "Failed to exec ")
		switch {
		case command && strings.Contains(line, "No such file or directory"):
			e.Code = runtime.NotFound
			e.Op = "exec: " + quoted(line) + ": executable file not found in $PATH"
			if name := strings.Trim(quoted(line), `"`); strings.Contains(name, "/") {
				e.Op = "exec: " + quoted(line) + ": stat " + name + ": no such file or directory"
			}
		case command:
			e.Code = runtime.NotExecutable
			e.Op = "exec: " + quoted(line) + ": permission denied"
		}
		return e
	}
	return e
}

// quoted returns the first thing in quotes, with them.
func quoted(s string) string {
	if i := strings.IndexByte(s, '"'); i >= 0 {
		if j := strings.IndexByte(s[i+1:], '"'); j >= 0 {
			return s[i : i+j+2]
		}
	}
	return `""`
}

// ExitStatus returns how the container's process, which has ended, did that, by
// the word of the monitor, for kernels that do not tell. It waits for the
// monitor.
func (c *Container) ExitStatus() (unix.WaitStatus, bool) {
	c.Relayed()
	raw, err := os.ReadFile(c.b.Path(fileLog))
	if err != nil {
		return 0, false
	}
	return exitStatus(string(raw))
}

// Relayed returns when the monitor has passed on what a container printed to its
// terminal before its end, which is when it ends itself.
func (c *Container) Relayed() {
	if pidfd, err := c.openMonitor(); err == nil && pidfd >= 0 {
		ended(pidfd, monitorTime)
		unix.Close(pidfd)
	}
}

// exitStatus reads it in a log: "Child <17> ended on error (3)", or "on signal
// (9)". Of an end without an error LXC writes nothing.
func exitStatus(log string) (unix.WaitStatus, bool) {
	_, how, ok := strings.Cut(log, "> ended on ")
	if !ok {
		return 0, !strings.Contains(log, "Failed to spawn container")
	}
	kind, rest, _ := strings.Cut(how, " (")
	number, _, _ := strings.Cut(rest, ")")
	n, err := strconv.Atoi(number)
	if kind == "signal" {
		return unix.WaitStatus(n), err == nil
	}
	return unix.WaitStatus(n << 8), kind == "error" && err == nil
}
