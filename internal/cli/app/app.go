package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"

	moby "github.com/moby/moby/client"
	"github.com/spf13/pflag"

	"lade/client"
	"lade/internal/cli/terminal"
)

// Name is what the client is called in its messages.
const Name = "lade"

// Env is where one invocation runs.
type Env struct {
	In      *terminal.In
	Out     *terminal.Out
	Err     *terminal.Out
	Options client.Options
	Debug   bool

	// UserAgent is sent with every request.
	UserAgent string
	// NoStart says not to start an engine where none answers.
	NoStart bool

	once     sync.Once
	endpoint *client.Endpoint
	api      *moby.Client
	apiErr   error

	configOnce sync.Once
	config     *client.Config
}

// New makes an environment over the given streams.
func New(in io.Reader, out, errOut io.Writer) *Env {
	return &Env{In: terminal.NewIn(in), Out: terminal.NewOut(out), Err: terminal.NewOut(errOut)}
}

// Config is the user's config.json; an unreadable one is told and then empty.
func (e *Env) Config() *client.Config {
	e.configOnce.Do(func() {
		c, err := client.LoadConfig(e.Options.Dir())
		if err != nil {
			e.Warn("Error %v", err)
		}
		e.config = c
	})
	return e.config
}

// API is the connection to the engine. Nothing is sent before the first call on
// it.
func (e *Env) API() (*moby.Client, error) {
	e.once.Do(func() {
		if _, _, e.apiErr = e.Options.ContextName(e.Config()); e.apiErr != nil {
			return
		}
		if e.endpoint, e.apiErr = e.Options.Resolve(e.Config()); e.apiErr != nil {
			e.apiErr = fmt.Errorf("Failed to initialize: unable to resolve docker endpoint: %w", e.apiErr)
			return
		}
		e.api, e.apiErr = e.endpoint.Open(os.Getenv("DOCKER_API_VERSION"), e.UserAgent, e.starter())
	})
	return e.api, e.apiErr
}

// Endpoint is where API connects to.
func (e *Env) Endpoint() (*client.Endpoint, error) {
	if _, err := e.API(); err != nil {
		return nil, err
	}
	return e.endpoint, nil
}

// Read asks for a path of the API as quickly as can be, see client.Endpoint.Read.
func (e *Env) Read(ctx context.Context, path string) ([]byte, error) {
	ep, err := e.Endpoint()
	if err != nil {
		return nil, err
	}
	if v := os.Getenv("DOCKER_API_VERSION"); v != "" {
		path = "/v" + v + path
	}
	return ep.Read(ctx, path, e.UserAgent)
}

// Dial opens a bare connection to the engine.
func (e *Env) Dial(ctx context.Context) (io.ReadWriteCloser, error) {
	ep, err := e.Endpoint()
	if err != nil {
		return nil, err
	}
	return ep.Dial(ctx, e.starter())
}

// starter starts an engine where we may; nil where not.
func (e *Env) starter() func(context.Context) error {
	if e.NoStart || !client.MayStart(os.Getenv) {
		return nil
	}
	return client.Daemon{}.Start
}

// Warn tells the user something that does not stop the command.
func (e *Env) Warn(format string, a ...any) {
	_, _ = fmt.Fprintf(e.Err, "WARNING: "+format+"\n", a...)
}

// Println writes to the standard output.
func (e *Env) Println(a ...any) error {
	_, err := fmt.Fprintln(e.Out, a...)
	return err
}

// Complain writes to the standard error.
func (e *Env) Complain(a ...any) { _, _ = fmt.Fprintln(e.Err, a...) }

// Confirm asks a yes-or-no question on the terminal; the answer no, and the end
// of the input, are false.
func (e *Env) Confirm(question string) (bool, error) {
	if _, err := io.WriteString(e.Out, question+" [y/N] "); err != nil {
		return false, err
	}
	var line []byte
	b := make([]byte, 1)
	for {
		n, err := e.In.Read(b)
		if n == 1 && b[0] != '\n' {
			line = append(line, b[0])
		}
		if err != nil || n == 1 && b[0] == '\n' {
			break
		}
	}
	return strings.EqualFold(strings.TrimSpace(string(line)), "y"), nil
}

// Exit is an error with an exit code. Msg, if not empty, is what is printed;
// otherwise Err is.
type Exit struct {
	Code int
	Msg  string
	Err  error
}

func (x *Exit) Error() string {
	if x.Msg == "" && x.Err != nil {
		return x.Err.Error()
	}
	return x.Msg
}

// Unwrap is the cause.
func (x *Exit) Unwrap() error { return x.Err }

// Code is the exit code of an error.
func Code(err error) int {
	if err == nil {
		return 0
	}
	if x, ok := errors.AsType[*Exit](err); ok && x.Code != 0 {
		return x.Code
	}
	return 1
}

// Run is a command's work.
type Run func(ctx context.Context, args []string) error

// Command declares a command or, with Sub, a group of them.
type Command struct {
	Use     string   // "run [OPTIONS] IMAGE [COMMAND] [ARG...]"; its first word is the name
	Short   string   // one line
	Long    string   // for help; empty: Short
	Aliases []string // other names in the same group
	Paths   []string // all ways to call it, for help: "container run", "run"
	Top     int      // place among the common commands of the top level; 0: not one
	Hidden  bool
	Own     bool // Docker's client lacks it
	Args    Args
	More    bool // takes more arguments than Docker's, which Args says
	Build   func(*Env, *pflag.FlagSet) Run
	Sub     []Command
}

// Name is the first word of Use.
func (c *Command) Name() string {
	n, _, _ := strings.Cut(c.Use, " ")
	return n
}

// Args says how many arguments a command takes.
type Args struct {
	Min, Max int
	Bare     bool // it is exactly Min, and the complaint has no usage, as with few of Docker's
}

// Unlimited is a Max without bound.
const Unlimited = -1

// None is for a command without arguments.
func None() Args { return Args{} }

// Exactly is for a command with n arguments.
func Exactly(n int) Args { return Args{Min: n, Max: n} }

// AtLeast is for a command with n arguments or more.
func AtLeast(n int) Args { return Args{Min: n, Max: Unlimited} }

// AtMost is for a command with n arguments or fewer.
func AtMost(n int) Args { return Args{Max: n} }

// Between is for a command with a to b arguments.
func Between(a, b int) Args { return Args{Min: a, Max: b} }

// Check complains, in Docker's words, when n arguments do not fit. path is the
// command as called, usage its usage line.
func (a Args) Check(n int, path, usage string) error {
	if n >= a.Min && (n <= a.Max || a.Max == Unlimited) {
		return nil
	}
	if a.Bare {
		return fmt.Errorf("accepts %d arg(s), received %d", a.Min, n)
	}
	count := func(n int) string {
		if n == 1 {
			return "1 argument"
		}
		return strconv.Itoa(n) + " arguments"
	}
	what, see := "", "Run"
	switch {
	case a.Max == 0:
		what = "accepts no arguments"
	case a.Min == a.Max:
		what = "requires " + count(a.Min)
	case a.Max == Unlimited:
		what, see = "requires at least "+count(a.Min), "See"
	case a.Min == 0:
		what = "requires at most " + count(a.Max)
	default:
		what = fmt.Sprintf("requires at least %d and at most %s", a.Min, count(a.Max))
	}
	return fmt.Errorf("%s: '%s' %s\n\nUsage:  %s\n\n%s '%s --help' for more information", Name, path, what, usage, see, path)
}

// The help of --format.
const (
	TableFormat = `Format output using a custom template:
'table':            Print output in table format with column headers (default)
'table TEMPLATE':   Print output in table format using the given Go template
'json':             Print in JSON format
'TEMPLATE':         Print output using the given Go template.
Refer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates`
	InspectFormat = `Format output using a custom template:
'json':             Print in JSON format
'TEMPLATE':         Print output using the given Go template.
Refer to https://docs.docker.com/go/formatting/ for more information about formatting output with templates`
)

// Each runs f for every name, at most fifty at a time, and calls done with each
// result in the order of the names.
func Each(ctx context.Context, names []string, f func(context.Context, string) error, done func(name string, err error)) {
	results := make([]chan error, len(names))
	room := make(chan struct{}, 50)
	var wg sync.WaitGroup
	for i, n := range names {
		results[i] = make(chan error, 1)
		wg.Go(func() {
			room <- struct{}{}
			results[i] <- f(ctx, n)
			<-room
		})
	}
	for i, n := range names {
		done(n, <-results[i])
	}
	wg.Wait()
}
