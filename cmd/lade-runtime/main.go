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
	"strings"
	"time"

	"lade/internal/errdefs"
	"lade/internal/runtime"
	"lade/internal/trace"
)

// version is set by the linker.
var version = "dev"

// specVersion is the version of the OCI runtime-spec that is implemented.
const specVersion = "1.2.1"

// app is what every verb gets.
type app struct {
	root    string
	log     *slog.Logger
	systemd bool
	stdin   *os.File
	stdout  io.Writer
	stderr  io.Writer
}

// exitCode ends the program with a status, without a message.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

func main() {
	if err := runtime.Shield(); err != nil {
		fmt.Fprintln(os.Stderr, "lade-runtime:", err)
		os.Exit(1)
	}
	trace.Enable(os.Getenv("LADE_TRACE"))
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	a := &app{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}
	flags := newFlags("lade-runtime")
	flags.StringVar(&a.root, "root", "/run/lade-runtime", "directory for the state of containers")
	logFile := flags.String("log", "", "file for log lines (default: standard error)")
	format := flags.String("log-format", "text", "text or json")
	debug := flags.Bool("debug", false, "log more")
	flags.BoolVar(&a.systemd, "systemd-cgroup", false, "have systemd make the control group; cgroupsPath is slice:prefix:name")
	flags.String("rootless", "", "accepted")
	show := flags.Bool("version", false, "print the version")
	if err := flags.Parse(args); err != nil {
		return usage(a.stderr, err)
	}
	if *show {
		fmt.Fprintf(a.stdout, "lade-runtime version %s\nspec: %s\n", version, specVersion)
		return 0
	}
	close, err := a.openLog(*logFile, *format, *debug)
	if err != nil {
		fmt.Fprintln(a.stderr, "lade-runtime:", err)
		return 1
	}
	defer close()
	if flags.NArg() == 0 {
		return usage(a.stderr, errors.New("no verb given"))
	}
	verb := verbs()[flags.Arg(0)]
	if verb == nil {
		return usage(a.stderr, fmt.Errorf("no help topic for '%s'", flags.Arg(0)))
	}
	return a.finish(verb(context.Background(), a, flags.Args()[1:]), *logFile != "")
}

// finish reports how a verb ended.
func (a *app) finish(err error, logged bool) int {
	if err == nil {
		return 0
	}
	if code, ok := errors.AsType[exitCode](err); ok {
		return int(code)
	}
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	// containerd finds the reason in the log, a person on standard error.
	a.log.Error(err.Error())
	if logged {
		fmt.Fprintln(a.stderr, "lade-runtime:", err)
	}
	return 1
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
	switch format {
	case "json":
		o.ReplaceAttr = func(_ []string, at slog.Attr) slog.Attr {
			if at.Key == slog.LevelKey {
				at.Value = slog.StringValue(strings.ToLower(at.Value.String()))
			}
			return at
		}
		a.log = slog.New(slog.NewJSONHandler(w, o))
	case "text", "":
		a.log = slog.New(slog.NewTextHandler(w, o))
	default:
		return nil, errdefs.Invalidf("invalid log-format %q", format)
	}
	return close, nil
}

func newFlags(name string) *flag.FlagSet {
	f := flag.NewFlagSet(name, flag.ContinueOnError)
	f.SetOutput(io.Discard)
	return f
}

func usage(w io.Writer, err error) int {
	if !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(w, "lade-runtime:", err)
	}
	fmt.Fprintln(w, "usage: lade-runtime [--root DIR] [--log FILE] [--log-format text|json] VERB [FLAG…] [ID] …")
	fmt.Fprintln(w, "verbs: create delete exec features kill list pause ps resume run spec start state update")
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	return 1
}

// one parses flags that are followed by a container's id and nothing else.
func one(f *flag.FlagSet, args []string) (string, error) {
	if err := f.Parse(args); err != nil {
		return "", err
	}
	if f.NArg() != 1 {
		return "", errdefs.Invalidf("%s: \"%s\" requires exactly 1 argument", os.Args[0], f.Name())
	}
	return f.Arg(0), nil
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
