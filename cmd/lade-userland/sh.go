package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/interp"
	"mvdan.cc/sh/v3/syntax"
)

// session is one run of the shell.
type session struct {
	runner *interp.Runner

	mu      sync.Mutex
	traps   map[syscall.Signal]string // guarded by mu; "" ignores
	pending []syscall.Signal          // guarded by mu
	wake    chan struct{}             // one token: a trapped signal arrived
	idle    *sync.Cond                // on mu: running changed, or a signal arrived
	running int                       // child processes; guarded by mu

	interrupted atomic.Bool
	cancel      atomic.Pointer[context.CancelFunc] // ends the statement under way
	interactive bool
}

// shell is sh(1): sh [-c command [name [args]]] [-s] [-i] [-l] [script [args]].
func shell(args []string) int {
	var script string
	var options []string
	fromString, interactive := false, false
	for len(args) > 0 && len(args[0]) > 1 && (args[0][0] == '-' || args[0][0] == '+') {
		a := args[0]
		args = args[1:]
		if a == "--" {
			break
		}
		if a == "-o" || a == "+o" {
			if len(args) > 0 {
				options, args = append(options, a, args[0]), args[1:]
			}
			continue
		}
		for _, c := range a[1:] {
			switch c {
			case 'c':
				fromString = true
			case 'i':
				interactive = true
			case 's', 'l':
			default:
				options = append(options, a[:1]+string(c))
			}
		}
	}
	name := "sh"
	file := (*os.File)(nil)
	switch {
	case fromString:
		if len(args) == 0 {
			fmt.Fprintln(os.Stderr, "sh: -c requires an argument")
			return 2
		}
		script, args = args[0], args[1:]
		if len(args) > 0 {
			args = args[1:] // $0
		}
	case len(args) > 0:
		f, err := os.Open(args[0])
		if err != nil {
			fmt.Fprintf(os.Stderr, "sh: %v\n", err)
			return 127
		}
		defer f.Close()
		file, name, args = f, args[0], args[1:]
	default:
		file = os.Stdin
		interactive = interactive || term.IsTerminal(0) && term.IsTerminal(2)
	}
	s := &session{traps: map[syscall.Signal]string{}, wake: make(chan struct{}, 1), interactive: interactive}
	s.idle = sync.NewCond(&s.mu)
	params := append(options, "--")
	r, err := interp.New(
		interp.StdIO(os.Stdin, os.Stdout, os.Stderr), interp.Params(append(params, args...)...), interp.Interactive(interactive),
		interp.CallHandler(s.call), interp.ExecHandlers(s.exec),
	)
	if err != nil {
		fmt.Fprintf(os.Stderr, "sh: %v\n", err)
		return 2
	}
	s.runner = r
	if interactive {
		return s.interact()
	}
	if os.Getpid() == 1 {
		s.catch(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT)
	}
	if fromString {
		return s.runString(script)
	}
	return s.runFile(file, name)
}

// runString runs the text of -c. A single command replaces the shell, so that
// it gets the signals that are meant for it.
func (s *session) runString(script string) int {
	prog, err := syntax.NewParser().Parse(strings.NewReader(script), "sh")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	if words := literal(prog); words != nil && !interp.IsBuiltin(words[0]) {
		env := expand.ListEnviron(os.Environ()...)
		if path, err := interp.LookPath(env, words[0]); err == nil {
			// Only a failure returns, which the interpreter then reports.
			_ = syscall.Exec(path, words, os.Environ())
		}
	}
	return s.finish(s.runner.Run(context.Background(), prog))
}

// literal returns the words of a program that is one plain command.
func literal(prog *syntax.File) []string {
	if len(prog.Stmts) != 1 {
		return nil
	}
	st := prog.Stmts[0]
	call, ok := st.Cmd.(*syntax.CallExpr)
	if !ok || len(call.Assigns) > 0 || len(call.Args) == 0 || len(st.Redirs) > 0 || st.Background || st.Coprocess || st.Negated {
		return nil
	}
	var out []string
	for _, w := range call.Args {
		lit := w.Lit()
		if lit == "" || strings.ContainsAny(lit, "\\*?[~{") {
			return nil
		}
		out = append(out, lit)
	}
	return out
}

// runFile runs a script as it is read, so that "exec" and here documents on
// standard input work.
func (s *session) runFile(r io.Reader, name string) int {
	var last error
	for st, err := range syntax.NewParser().StmtsSeq(r) {
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
			return 2
		}
		last = s.runner.Run(context.Background(), st)
		if s.runner.Exited() {
			return s.finish(last)
		}
	}
	// The end of a file is an exit: this runs the trap for it.
	if err := s.runner.Run(context.Background(), &syntax.File{}); err != nil && last == nil {
		last = err
	}
	return s.finish(last)
}

// finish returns the exit status of err.
func (s *session) finish(err error) int {
	if st, ok := errors.AsType[interp.ExitStatus](err); ok {
		return int(st)
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintf(os.Stderr, "sh: %v\n", err)
		return 1
	}
	if err != nil {
		return 128 + int(syscall.SIGINT)
	}
	return 0
}

// catch makes signals arrive at the shell: a trap, or the end.
func (s *session) catch(signals ...os.Signal) {
	c := make(chan os.Signal, 8)
	signal.Notify(c, signals...)
	go func() {
		for got := range c {
			sig, ok := got.(syscall.Signal)
			if !ok {
				continue
			}
			s.mu.Lock()
			_, trapped := s.traps[sig]
			if trapped {
				s.pending = append(s.pending, sig)
				s.idle.Broadcast()
			}
			running := s.running
			s.mu.Unlock()
			switch {
			case trapped:
			case !s.interactive:
				os.Exit(128 + int(sig))
			case sig == syscall.SIGINT:
				s.interrupted.Store(true)
				if cancel := s.cancel.Load(); cancel != nil && running == 0 {
					(*cancel)() // a loop of built-in commands
				}
			}
		}
	}()
}

// call sees every simple command before it runs. It carries out traps, which
// the interpreter does for EXIT and ERR only, and replaces the process for exec.
func (s *session) call(ctx context.Context, args []string) ([]string, error) {
	switch {
	case args[0] == "trap" && len(args) > 2:
		rest, err := s.setTraps(args[1], args[2:])
		if err != nil || len(rest) == 0 {
			return []string{"true"}, err
		}
		return append([]string{"trap", args[1]}, rest...), nil
	case args[0] == "exec" && len(args) > 1:
		s.replace(ctx, args[1:])
	case args[0] == "wait" && len(args) == 1:
		s.awaitChildren()
	case args[0] == "kill" || args[0] == "jobs" || args[0] == "umask" || args[0] == "ulimit":
		// What the interpreter knows by name but does not have.
		hc := interp.HandlerCtx(ctx)
		args = own(hc, args)
	}
	s.mu.Lock()
	todo := s.pending
	s.pending = nil
	var actions []string
	for _, sig := range todo {
		if a := s.traps[sig]; a != "" {
			actions = append(actions, a)
		}
	}
	s.mu.Unlock()
	if len(actions) == 0 {
		return args, nil
	}
	if args[0] == "wait" { // POSIX: ends at once with a status over 128
		args = []string{"return", strconv.Itoa(128 + int(todo[0]))}
		return []string{"eval", strings.Join(actions, "\n") + "\n(exit " + args[1] + ")"}, nil
	}
	quoted := make([]string, len(args))
	for i, a := range args {
		q, err := syntax.Quote(a, syntax.LangBash)
		if err != nil {
			return args, nil
		}
		quoted[i] = q
	}
	return []string{"eval", strings.Join(actions, "\n") + "\n" + strings.Join(quoted, " ")}, nil
}

// own runs the built-in commands that must act on the shell itself, and sends
// the others to the program of that name.
func own(hc interp.HandlerContext, args []string) []string {
	switch args[0] {
	case "jobs":
		return []string{"true"}
	case "umask":
		if len(args) > 1 {
			mask, err := strconv.ParseUint(args[1], 8, 12)
			if err != nil {
				fmt.Fprintf(hc.Stderr, "umask: illegal mode: %s\n", args[1])
				return []string{"false"}
			}
			unix.Umask(int(mask))
			return []string{"true"}
		}
		mask := unix.Umask(0)
		unix.Umask(mask)
		fmt.Fprintf(hc.Stdout, "%04o\n", mask)
		return []string{"true"}
	case "ulimit":
		return ulimit(hc, args[1:])
	}
	path, err := interp.LookPathDir(hc.Dir, hc.Env, args[0])
	if err != nil {
		return args
	}
	return append([]string{path}, args[1:]...)
}

// ulimit shows or sets a limit: ulimit [-HS] [-cfnpuv] [VALUE].
func ulimit(hc interp.HandlerContext, args []string) []string {
	set, rest, err := options(args, "HScdfmnpstuv")
	if err != nil {
		fmt.Fprintf(hc.Stderr, "ulimit: %v\n", err)
		return []string{"false"}
	}
	which := unix.RLIMIT_FSIZE
	for c, r := range map[byte]int{'c': unix.RLIMIT_CORE, 'd': unix.RLIMIT_DATA, 'n': unix.RLIMIT_NOFILE, 's': unix.RLIMIT_STACK,
		't': unix.RLIMIT_CPU, 'u': unix.RLIMIT_NPROC, 'v': unix.RLIMIT_AS, 'm': unix.RLIMIT_RSS} {
		if _, ok := set[c]; ok {
			which = r
		}
	}
	// The soft limit of files that the Go runtime raised for itself is not
	// what the shell was given; the syscall package restores it for children.
	var lim syscall.Rlimit
	err = syscall.Getrlimit(which, &lim)
	_, hard := set['H']
	if err == nil && len(rest) > 0 {
		v := uint64(unix.RLIM_INFINITY)
		if rest[0] != "unlimited" {
			v, err = strconv.ParseUint(rest[0], 10, 64)
		}
		_, soft := set['S']
		if !soft {
			lim.Max = v
		}
		if !hard {
			lim.Cur = v
		}
		if err == nil {
			err = syscall.Setrlimit(which, &lim)
		}
	} else if err == nil {
		v := lim.Cur
		if hard {
			v = lim.Max
		}
		if v == unix.RLIM_INFINITY {
			fmt.Fprintln(hc.Stdout, "unlimited")
		} else {
			fmt.Fprintln(hc.Stdout, v)
		}
	}
	if err != nil {
		fmt.Fprintf(hc.Stderr, "ulimit: %v\n", err)
		return []string{"false"}
	}
	return []string{"true"}
}

// setTraps takes the traps for signals and returns the other conditions.
func (s *session) setTraps(action string, conditions []string) (rest []string, err error) {
	var caught []os.Signal
	s.mu.Lock()
	for _, c := range conditions {
		sig, ok := signalNumber(c)
		switch {
		case c == "0":
			rest = append(rest, "EXIT")
		case !ok:
			rest = append(rest, c)
		case action == "-":
			delete(s.traps, sig)
			signal.Reset(sig)
		default:
			s.traps[sig] = action
			caught = append(caught, sig)
		}
	}
	s.mu.Unlock()
	if len(caught) > 0 {
		s.catch(caught...)
	}
	return rest, nil
}

// awaitChildren blocks until no child runs or a trapped signal arrived.
func (s *session) awaitChildren() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.running > 0 && len(s.pending) == 0 {
		s.idle.Wait()
	}
}

// replace executes a command in place of the shell if its standard streams are
// files that the process can have; else it returns and the interpreter runs
// the command as a child.
func (s *session) replace(ctx context.Context, args []string) {
	hc := interp.HandlerCtx(ctx)
	path, err := interp.LookPathDir(hc.Dir, hc.Env, args[0])
	if err != nil {
		return
	}
	streams := [3]any{hc.Stdin, hc.Stdout, hc.Stderr}
	files := [3]*os.File{}
	for i, st := range streams {
		f, ok := st.(*os.File)
		if !ok || f == nil {
			return
		}
		own := f == os.Stdin || f == os.Stdout || f == os.Stderr
		if fi, err := f.Stat(); !own && (err != nil || fi.Mode()&os.ModeNamedPipe != 0) {
			return // one side of a pipeline: the shell has more to do
		}
		files[i] = f
	}
	var fds [3]int
	for i, f := range files {
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 10)
		if err != nil {
			return
		}
		fds[i] = fd
	}
	for i, fd := range fds {
		if err := unix.Dup3(fd, i, 0); err != nil {
			return
		}
	}
	if err := os.Chdir(hc.Dir); err != nil {
		return
	}
	var env []string
	for name, v := range hc.Env.Each {
		if v.Exported && v.Kind == expand.String {
			env = append(env, name+"="+v.String())
		}
	}
	_ = syscall.Exec(path, args, env) // on failure the interpreter reports it
}

// exec runs a child process. A cancelled statement does not kill it: the
// terminal has sent it the signal, and it may well handle it.
func (s *session) exec(next interp.ExecHandlerFunc) interp.ExecHandlerFunc {
	return func(ctx context.Context, args []string) error {
		hc := interp.HandlerCtx(ctx)
		if _, err := interp.LookPathDir(hc.Dir, hc.Env, args[0]); err != nil {
			if strings.Contains(args[0], "/") && !errors.Is(err, os.ErrNotExist) {
				fmt.Fprintf(hc.Stderr, "sh: %s: Permission denied\n", args[0])
				return interp.ExitStatus(126)
			}
			fmt.Fprintf(hc.Stderr, "sh: %s: not found\n", args[0])
			return interp.ExitStatus(127)
		}
		s.count(1)
		defer s.count(-1)
		err := next(context.WithoutCancel(ctx), args)
		if st, ok := errors.AsType[interp.ExitStatus](err); ok && st == 128+interp.ExitStatus(syscall.SIGINT) && s.interrupted.Load() {
			if cancel := s.cancel.Load(); cancel != nil {
				(*cancel)()
			}
		}
		return err
	}
}

func (s *session) count(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running += n
	s.idle.Broadcast()
}

// interact reads lines from a person.
func (s *session) interact() int {
	s.catch(syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM)
	ed := newEditor()
	parser := syntax.NewParser()
	var last error
	for {
		prompt := "# "
		if os.Geteuid() != 0 {
			prompt = "$ "
		}
		if dir := s.runner.Dir; dir != "" {
			prompt = dir + " " + prompt
		} else if wd, err := os.Getwd(); err == nil {
			prompt = wd + " " + prompt
		}
		text, err := ed.statement(parser, prompt)
		if errors.Is(err, errInterrupt) {
			last = interp.ExitStatus(130)
			continue
		}
		if err == io.EOF {
			return s.finish(last)
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "sh: %v\n", err)
			last = interp.ExitStatus(2)
			continue
		}
		prog, err := parser.Parse(strings.NewReader(text), "")
		if err != nil {
			fmt.Fprintf(os.Stderr, "sh: %v\n", err)
			last = interp.ExitStatus(2)
			continue
		}
		if len(prog.Stmts) == 0 {
			continue
		}
		var exited bool
		if last, exited = s.runLine(prog); exited {
			return s.finish(last)
		}
	}
}

// runLine runs what a person has entered, until ^C, and reports whether that was
// the shell's end. A ^C between two statements ends the line, too.
func (s *session) runLine(prog *syntax.File) (last error, exited bool) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s.cancel.Store(&cancel)
	defer s.cancel.Store(nil)
	for _, st := range prog.Stmts {
		s.interrupted.Store(false)
		last = s.runner.Run(ctx, st)
		if errors.Is(last, context.Canceled) { // which also counts as exited
			fmt.Fprintln(os.Stderr)
			return interp.ExitStatus(130), false
		}
		if s.runner.Exited() {
			return last, true
		}
		if _, ok := errors.AsType[interp.ExitStatus](last); last != nil && !ok {
			fmt.Fprintf(os.Stderr, "sh: %v\n", last)
		}
	}
	return last, false
}

var errInterrupt = errors.New("interrupt")

// editor reads lines with editing and history where there is a terminal.
type editor struct {
	term  *term.Terminal
	input *watched
	plain bool
}

// watched notes whether the last thing read was ^C, which the line editor
// reports like the end of input.
type watched struct{ interrupt bool }

func (w *watched) Read(p []byte) (int, error) {
	n, err := os.Stdin.Read(p)
	for _, c := range p[:n] {
		w.interrupt = c == 3
	}
	return n, err
}

func newEditor() *editor {
	in := &watched{}
	return &editor{input: in, plain: !term.IsTerminal(0), term: term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{in, os.Stderr}, "")}
}

// line reads one line. Errors: io.EOF, errInterrupt.
func (e *editor) line(prompt string) (string, error) {
	if e.plain {
		return readLine(os.Stdin)
	}
	old, err := term.MakeRaw(0)
	if err != nil {
		return "", err
	}
	defer func() {
		if err := term.Restore(0, old); err != nil {
			fmt.Fprintf(os.Stderr, "sh: %v\n", err)
		}
	}()
	if w, h, err := term.GetSize(0); err == nil && w > 0 {
		if err := e.term.SetSize(w, h); err != nil {
			return "", err
		}
	}
	e.term.SetPrompt(prompt)
	line, err := e.term.ReadLine()
	if err == io.EOF {
		// The editor leaves the cursor behind the prompt.
		fmt.Fprint(os.Stderr, "\r\n")
		if e.input.interrupt {
			e.input.interrupt = false
			e.term = term.NewTerminal(struct {
				io.Reader
				io.Writer
			}{e.input, os.Stderr}, "")
			return "", errInterrupt
		}
	}
	return line, err
}

// statement reads lines until they are whole statements.
func (e *editor) statement(parser *syntax.Parser, prompt string) (string, error) {
	var text strings.Builder
	for {
		line, err := e.line(prompt)
		if err != nil && line == "" {
			return "", err
		}
		text.WriteString(line + "\n")
		_, perr := parser.Parse(strings.NewReader(text.String()), "")
		if perr == nil || !syntax.IsIncomplete(perr) {
			return text.String(), nil
		}
		prompt = "> "
	}
}

// readLine reads bytes up to a line's end, no further, so that commands find
// the rest of the input.
func readLine(r io.Reader) (string, error) {
	var line []byte
	var c [1]byte
	for {
		n, err := r.Read(c[:])
		if n == 1 && c[0] == '\n' {
			return string(line), nil
		}
		if n == 1 {
			line = append(line, c[0])
		}
		if err != nil {
			return string(line), err
		}
	}
}

// viaShell runs a built-in command of the shell as a command.
func viaShell(name string) command {
	return func(args []string) int {
		s := &session{traps: map[syscall.Signal]string{}}
		s.idle = sync.NewCond(&s.mu)
		r, err := interp.New(interp.StdIO(os.Stdin, os.Stdout, os.Stderr), interp.Params(append([]string{"--"}, args...)...))
		if err != nil {
			return fail(name, err)
		}
		prog, err := syntax.NewParser().Parse(strings.NewReader(name+` "$@"`), name)
		if err != nil {
			return fail(name, err)
		}
		return s.finish(r.Run(context.Background(), prog))
	}
}

// bracket is test(1) by its other name.
func bracket(args []string) int {
	if len(args) == 0 || args[len(args)-1] != "]" {
		fmt.Fprintln(os.Stderr, "[: missing ]")
		return 2
	}
	return viaShell("test")(args[:len(args)-1])
}

// signalNumber reads "TERM", "SIGTERM" or "15".
func signalNumber(s string) (syscall.Signal, bool) {
	if n, err := strconv.Atoi(s); err == nil {
		return syscall.Signal(n), n > 0 && n < 65
	}
	name := strings.ToUpper(s)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	sig := unix.SignalNum(name)
	return sig, sig != 0
}
