package runtime

import (
	"errors"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/program"
)

// Exit codes that stand for a failed start, as the shell and Docker use them.
const (
	codeNotExecutable = 126
	codeNotFound      = 127
	codeFailed        = 128
)

// opExec is StartError.Op for a command that cannot be executed.
const opExec = "exec"

// Error returns the failure in the words that runc uses.
func (e *StartError) Error() string {
	if e.Op == opExec {
		return e.execError()
	}
	s := e.Op
	if e.Path != "" {
		s += ": " + e.Path
	}
	if e.Errno != 0 {
		s += ": " + e.Errno.Error()
	}
	if e.Errno == unix.ENOTDIR && strings.HasPrefix(e.Op, "error mounting") {
		s += ": Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is the expected type"
	}
	return s
}

func (e *StartError) execError() string {
	s := `exec: "` + e.Path + `": `
	switch {
	case e.Errno == unix.EISDIR:
		return s + "is a directory: permission denied"
	case e.Code == codeNotFound && !strings.Contains(e.Path, "/"):
		return s + "executable file not found in $PATH"
	case e.Code == codeNotFound:
		return s + "stat " + e.Path + ": " + e.Errno.Error()
	}
	return s + e.Errno.Error()
}

// Unwrap returns the errno, if any. What is wrong with the command or with the
// kind of a mount's source is Invalid; other failures have no kind, as in Docker.
func (e *StartError) Unwrap() []error {
	var out []error
	if e.Errno != 0 {
		out = append(out, e.Errno)
	}
	if e.Code == codeNotExecutable || e.Code == codeNotFound {
		out = append(out, &errdefs.Error{Kind: errdefs.Invalid, Msg: e.Op})
	}
	return out
}

// bare as a stage's path says that what it is for tells enough.
const bare = "-"

// stage names a part of a program, from its first op on.
type stage struct {
	first int
	what  string // as StartError.Op
	path  string // as StartError.Path; "": the failed op's own name
	own   bool   // our fault: no StartError
}

// explain turns the failure of a program into one of the request, where the
// request is to blame.
func (b *builder) explain(err error) error {
	if errors.Is(err, program.ErrTooLong) {
		return &StartError{Code: codeNotExecutable, Op: opExec, Path: b.command(), Errno: unix.E2BIG}
	}
	oe, ok := errors.AsType[*program.OpError](err)
	if !ok || oe.Index < 0 {
		return err
	}
	if b.guard != nil && oe.Index >= b.execFirst {
		return &StartError{Code: codeNotExecutable, Op: opExec, Path: b.command(), Errno: oe.Errno}
	}
	if b.execFirst > 0 && oe.Index >= b.execFirst {
		return b.explainExec()
	}
	if oe.Call == callCheck {
		return &StartError{Code: codeNotExecutable, Op: opExec, Path: b.command(), Errno: oe.Errno}
	}
	if oe.Call == callLookup {
		e := &StartError{Code: codeNotFound, Op: opExec, Path: b.command(), Errno: oe.Errno}
		if oe.Errno == unix.EACCES {
			e.Code = codeNotExecutable
		}
		return e
	}
	var s stage
	for _, t := range b.stages {
		if t.first <= oe.Index {
			s = t
		}
	}
	if s.own || s.what == "" {
		return err
	}
	path := s.path
	if path == "" {
		path = oe.Call
		if oe.Object != "" {
			path += " " + oe.Object
		}
	}
	if path == bare {
		path = ""
	}
	code := codeFailed
	if oe.Call == "move_mount" && oe.Errno == unix.EINVAL {
		// What the kernel says to a file on a directory.
		oe.Errno = unix.ENOTDIR
	}
	switch {
	case oe.Errno == unix.ENOTDIR:
		code = codeNotFound
	case oe.Call == "chdir": // the working directory counts as a part of the command
		switch oe.Errno {
		case unix.ENOENT:
			code = codeNotFound
		case unix.EACCES:
			code = codeNotExecutable
		}
	}
	return &StartError{Code: code, Op: s.what, Path: path, Errno: oe.Errno}
}

// danglingTarget returns the destination that could not be opened although the
// program has just made it, or nil.
func (b *builder) danglingTarget(err error) *target {
	oe, ok := errors.AsType[*program.OpError](err)
	if !ok || oe.Errno != unix.ENOENT || b.make != nil {
		return nil
	}
	if t, ok := b.made[oe.Index]; ok {
		return &t
	}
	return nil
}

// explainExec finds out why none of the execve ops succeeded.
func (b *builder) explainExec() error {
	e := &StartError{Code: codeNotFound, Op: opExec, Path: b.command(), Errno: unix.ENOENT}
	for i := b.execFirst; i < b.execFirst+b.execs; i++ {
		switch errno := b.p.Errno(i); errno {
		case 0, unix.ENOENT, unix.ENOTDIR, unix.ENAMETOOLONG:
			if b.execs == 1 && errno != 0 {
				e.Errno = errno
			}
		case unix.EACCES, unix.ELOOP:
			// Something by that name is there: this is the better answer.
			return b.found(e, errno)
		default:
			return b.found(e, errno)
		}
	}
	if b.execs == 1 && b.p.Errno(b.statOp) == 0 && e.Errno == unix.ENOENT {
		// The file is there; what is not is its interpreter.
		return b.found(e, unix.ENOENT)
	}
	if b.execs == 1 && e.Errno == unix.ENOTDIR {
		return b.found(e, e.Errno)
	}
	return e
}

func (b *builder) found(e *StartError, errno syscall.Errno) error {
	e.Code, e.Errno = codeNotExecutable, errno
	if errno == unix.ENOENT {
		e.Code, e.Op, e.Path = codeNotFound, opExec+" "+e.Path, ""
	}
	if errno == unix.EACCES && b.execs == 1 && b.isDirectory() {
		e.Errno = unix.EISDIR
	}
	return e
}
