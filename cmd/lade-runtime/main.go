// The number of processors is of no matter here: Go need not read the control
// groups to find it.
//
//go:debug containermaxprocs=0
//go:debug updatemaxprocs=0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/errdefs"
	"lade/internal/linux/sys"
	"lade/internal/trace"
)

// version is set by the linker.
var version = "dev"

// app is what every verb gets.
type app struct {
	root    string
	log     *slog.Logger
	logged  bool // to a file
	stdin   *os.File
	stdout  io.Writer
	systemd bool // --systemd-cgroup
	stderr  io.Writer
}

func verbs() map[string]func(context.Context, *app, []string) error {
	return map[string]func(context.Context, *app, []string) error{
		"create": create, "start": start, "run": runVerb, "state": state, "kill": kill, "delete": deleteVerb, "exec": execVerb,
		"ps": ps, "list": list, "pause": pause, "resume": resume, "spec": spec, "features": featuresVerb, "update": update, "events": events,
		holdVerb:     holdScope,
		"checkpoint": notImplemented("checkpoint"), "restore": notImplemented("restore"),
	}
}

// notImplemented is a verb of runc's that this program does not have.
func notImplemented(verb string) func(context.Context, *app, []string) error {
	return func(context.Context, *app, []string) error {
		return errdefs.NotImplementedf("%s is not implemented: lade-runtime does not use CRIU", verb)
	}
}

// exitCode ends the program with a status, without a message.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// ended is the result of a verb that waited for a program.
func ended(code int, err error) error {
	if err == nil && code != 0 {
		return exitCode(code)
	}
	return err
}

// codeNoVerb is how the program ends when it has no such verb, as runc does.
const codeNoVerb = 3

func main() {
	sys.DeepStack()
	// The monitor would wake some hundred times in the milliseconds that a start
	// takes, and another thread each time. One processor is for what blocks, one
	// for what goes on beside it.
	sys.CalmMonitor(5 * time.Millisecond)
	goruntime.GOMAXPROCS(2)
	trace.Enable(os.Getenv("LADE_TRACE"))
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	a := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}
	flags := newFlags("lade-runtime")
	flags.StringVar(&a.root, "root", defaultRoot(), "directory for the state of containers")
	logFile := flags.String("log", "", "file for log lines (default: standard error)")
	format := flags.String("log-format", "text", "text or json")
	debug := flags.Bool("debug", false, "log more")
	flags.BoolVar(&a.systemd, "systemd-cgroup", false, "have systemd make the control group; cgroupsPath is slice:prefix:name")
	flags.String("rootless", "auto", "accepted: it is found out")
	flags.String("criu", "", "accepted and ignored")
	show := flags.Bool("version", false, "print the version")
	flags.alias("v", "version")
	if err := flags.FlagSet.Parse(args); errors.Is(err, flag.ErrHelp) {
		overview(a.stdout, flags)
		return 0
	} else if err != nil {
		return a.misused(err)
	}
	if *show {
		fmt.Fprintf(a.stdout, "lade-runtime version %s\nspec: %s\n", version, specs.Version)
		return 0
	}
	close, err := a.openLog(*logFile, *format, *debug)
	if err != nil {
		fmt.Fprintln(a.stderr, "lade-runtime:", err)
		return 1
	}
	defer close()
	args = flags.Args()
	if help := len(args) > 0 && args[0] == "help"; help || len(args) == 0 {
		if len(args) < 2 {
			overview(a.stdout, flags)
			return 0
		}
		args = []string{args[1], "--help"}
	}
	a.logged = *logFile != ""
	verb := verbs()[args[0]]
	if verb == nil {
		a.fail(errdefs.Invalidf("No help topic for '%s'", args[0]))
		return codeNoVerb
	}
	return a.finish(verb(context.Background(), a, args[1:]))
}

// defaultRoot is where the state is: it must not outlive the machine.
func defaultRoot() string {
	if dir := os.Getenv("LADE_RUNTIME_ROOT"); dir != "" {
		return dir
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" && os.Geteuid() != 0 {
		return filepath.Join(dir, "lade-runtime")
	}
	return "/run/lade-runtime"
}

// finish reports how a verb ended.
func (a *app) finish(err error) int {
	if err == nil {
		return 0
	}
	if code, ok := errors.AsType[exitCode](err); ok {
		return int(code)
	}
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	a.fail(err)
	return 1
}

// fail tells why: containerd finds it in the log, a person on standard error.
func (a *app) fail(err error) {
	a.log.Error(err.Error())
	if a.logged {
		fmt.Fprintln(a.stderr, "lade-runtime:", err)
	}
}

// openLog directs log lines; json has the keys that containerd reads.
func (a *app) openLog(file, format string, debug bool) (close func(), err error) {
	var w io.Writer = a.stderr
	close = func() {}
	if file != "" {
		f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return nil, err
		}
		w, close = f, func() { f.Close() }
	}
	o := &slog.HandlerOptions{Level: slog.LevelInfo}
	if debug {
		o.Level = slog.LevelDebug
	}
	o.ReplaceAttr = func(_ []string, at slog.Attr) slog.Attr {
		if at.Key == slog.LevelKey {
			at.Value = slog.StringValue(strings.ToLower(at.Value.String()))
		}
		return at
	}
	switch format {
	case "json":
		a.log = slog.New(slog.NewJSONHandler(w, o))
	case "text", "":
		a.log = slog.New(slog.NewTextHandler(w, o))
	default:
		return nil, errdefs.Invalidf("invalid log-format %q", format)
	}
	return close, nil
}

// misused reports flags of the program that there are not.
func (a *app) misused(err error) int {
	fmt.Fprintln(a.stderr, "lade-runtime:", err)
	fmt.Fprintln(a.stderr, "\"lade-runtime --help\" tells what there is")
	return 1
}

func (a *app) print(v any) error {
	e := json.NewEncoder(a.stdout)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// cleanUp bounds what is done after something failed.
func cleanUp() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 10*time.Second)
}
