package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"lade/client"
	"lade/internal/cli/app"
)

// Main runs one invocation; args[0] is the program. It returns the exit code.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	// Most invocations end before they have made 16 MB of garbage, and are over
	// sooner without a collection.
	debug.SetGCPercent(400)
	ctx, stop := context.WithCancelCause(context.Background())
	defer stop(nil)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)
	go func() {
		select {
		case s := <-signals:
			// The next one kills: a command that does not listen must not hang.
			signal.Stop(signals)
			stop(signalled{s.(syscall.Signal)})
		case <-ctx.Done():
		}
	}()

	e := app.New(stdin, stdout, stderr)
	e.UserAgent = "Lade-Client/" + app.Version + " (" + runtime.GOOS + ")"
	err := run(ctx, e, args[1:])
	if err == nil {
		return 0
	}
	_, exits := errors.AsType[*app.Exit](err)
	if s, ok := errors.AsType[signalled](context.Cause(ctx)); ok && !exits {
		return 128 + int(s.Signal)
	}
	if errdefs.IsCanceled(err) {
		return 0
	}
	msg := err.Error()
	if start, ok := errors.AsType[*client.StartError](err); ok {
		msg = start.Error() // not in which request it showed
	}
	if msg != "" {
		e.Complain(msg)
	}
	return app.Code(err)
}

// signalled is why a context ended.
type signalled struct{ syscall.Signal }

func (s signalled) Error() string { return "ended by signal " + s.Signal.String() }

// run parses the global flags, finds the command and executes it.
func run(ctx context.Context, e *app.Env, args []string) error {
	root := newRoot(e)
	rest, err := root.globals(args)
	if err != nil {
		return err
	}
	if rest == nil {
		return nil
	}
	return root.execute(ctx, rest)
}

// root is the tree of commands as cobra sees it.
type root struct {
	*cobra.Command
	env   *app.Env
	specs map[*cobra.Command]*app.Command
	built map[*cobra.Command]bool
}

func newRoot(e *app.Env) *root {
	r := &root{env: e, specs: map[*cobra.Command]*app.Command{}, built: map[*cobra.Command]bool{}}
	r.Command = &cobra.Command{
		Use:                   app.Name + " [OPTIONS] COMMAND [ARG...]",
		Short:                 "A self-sufficient runtime for containers",
		SilenceUsage:          true,
		SilenceErrors:         true,
		DisableFlagsInUseLine: true,
		CompletionOptions:     cobra.CompletionOptions{HiddenDefaultCmd: true},
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return errors.New(unknownCommand(r.Command, args[0]))
			}
			return nil
		},
		RunE: showHelp(e),
	}
	r.SetIn(e.In)
	r.SetOut(e.Out)
	r.SetErr(e.Err)
	r.SetHelpFunc(func(c *cobra.Command, _ []string) { r.help(c, c.OutOrStdout()) })
	r.SetUsageFunc(func(c *cobra.Command) error { r.help(c, c.OutOrStderr()); return nil })
	r.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		msg := fmt.Sprintf("%v\n\nUsage:  %s\n\nRun '%s --help' for more information", err, c.UseLine(), c.CommandPath())
		return &app.Exit{Code: 125, Msg: didYouMean(msg, flagLike(c, err))}
	})
	r.SetHelpCommand(&cobra.Command{
		Use:   "help [command]",
		Short: "Help about the command",
		RunE: func(c *cobra.Command, args []string) error {
			target, rest := r.find(args)
			if len(rest) > 0 {
				return fmt.Errorf("unknown help topic: %s", strings.Join(args, " "))
			}
			r.help(target, e.Out)
			return nil
		},
	})
	r.addGlobalFlags()
	for _, c := range commands() {
		r.AddCommand(r.shell(&c))
	}
	return r
}

// showHelp is what a group does by itself: help, where errors go.
func showHelp(e *app.Env) func(*cobra.Command, []string) error {
	return func(c *cobra.Command, _ []string) error {
		c.SetOut(e.Err)
		return c.Help()
	}
}

// shell makes a cobra command without flags; build adds them.
func (r *root) shell(s *app.Command) *cobra.Command {
	c := &cobra.Command{
		Use: s.Use, Short: s.Short, Long: s.Long, Aliases: s.Aliases, Hidden: s.Hidden,
		DisableFlagsInUseLine: true,
	}
	r.specs[c] = s
	if s.Sub == nil {
		c.Args = func(c *cobra.Command, args []string) error {
			if s.More && len(args) >= s.Args.Min {
				return nil
			}
			return s.Args.Check(len(args), c.CommandPath(), c.UseLine())
		}
		// Replaced by build; there so that cobra takes it for a command that runs.
		c.RunE = func(*cobra.Command, []string) error { return nil }
		return c
	}
	c.Args = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		return errors.New(unknownCommand(c, args[0]))
	}
	c.RunE = showHelp(r.env)
	for i := range s.Sub {
		c.AddCommand(r.shell(&s.Sub[i]))
	}
	return c
}

// build adds a command's flags and work to its shell, once. It has to come
// before anything that makes cobra merge the flags of parents.
func (r *root) build(c *cobra.Command) {
	s := r.specs[c]
	if s == nil || s.Build == nil || r.built[c] {
		return
	}
	r.built[c] = true
	work := s.Build(r.env, c.Flags())
	c.RunE = func(c *cobra.Command, args []string) error { return work(c.Context(), args) }
}

func (r *root) addGlobalFlags() {
	o, f := &r.env.Options, r.Flags()
	dir := o.Dir()
	f.StringVar(&o.ConfigDir, "config", dir, "Location of client config files")
	f.BoolVarP(&r.env.Debug, "debug", "D", false, "Enable debug mode")
	f.StringP("log-level", "l", "info", `Set the logging level ("debug", "info", "warn", "error", "fatal")`)
	f.VarP((*hosts)(&o.Hosts), "host", "H", "Daemon socket to connect to")
	f.StringVarP(&o.Context, "context", "c", "", `Name of the context to use to connect to the daemon (overrides DOCKER_HOST env var and default context set with "docker context use")`)
	f.BoolVar(&o.TLS, "tls", false, "Use TLS; implied by --tlsverify")
	f.BoolVar(&o.TLSVerify, "tlsverify", false, "Use TLS and verify the remote")
	f.StringVar(&o.CAFile, "tlscacert", "", "Trust certs signed only by this CA")
	f.StringVar(&o.CertFile, "tlscert", "", "Path to TLS certificate file")
	f.StringVar(&o.KeyFile, "tlskey", "", "Path to TLS key file")
	for name, base := range map[string]string{"tlscacert": "ca", "tlscert": "cert", "tlskey": "key"} {
		f.Lookup(name).DefValue = dir + "/" + base + ".pem"
	}
	f.BoolP("version", "v", false, "Print version information and quit")
	r.PersistentFlags().BoolP("help", "h", false, "Print usage")
	h := r.PersistentFlags().Lookup("help")
	h.ShorthandDeprecated, h.Hidden = "use --help", true
}

// hosts is the flag --host; that it may be given once only is said later, with
// the context in view.
type hosts []string

func (h *hosts) Set(v string) error { *h = append(*h, v); return nil }
func (h *hosts) String() string     { return "" }
func (h *hosts) Type() string       { return "list" }

// globals parses the flags before the command and returns the rest; nil if they
// already said all.
func (r *root) globals(args []string) ([]string, error) {
	f := pflag.NewFlagSet(app.Name, pflag.ContinueOnError)
	f.SetInterspersed(false)
	f.SetOutput(r.env.Err)
	f.Usage = func() {}
	f.AddFlagSet(r.Flags())
	f.AddFlagSet(r.PersistentFlags())
	if err := f.Parse(args); err != nil {
		return nil, r.FlagErrorFunc()(r.Command, err)
	}
	r.env.Options.TLSVerifySet = f.Changed("tlsverify")
	if help, _ := f.GetBool("help"); help {
		r.help(r.Command, r.env.Out)
		return nil, nil
	}
	if version, _ := f.GetBool("version"); version {
		return nil, r.env.Println(app.VersionLine())
	}
	if f.NArg() == 0 {
		return nil, showHelp(r.env)(r.Command, nil)
	}
	return f.Args(), nil
}

func (r *root) execute(ctx context.Context, args []string) error {
	if name := args[0]; len(args) > 1 && (name == cobra.ShellCompRequestCmd || name == cobra.ShellCompNoDescRequestCmd) {
		args = r.prepareCompletion(args)
		if c, _ := r.find(args[1:]); c == r.Command && len(args) > 2 {
			if path := findPlugin(r.env, args[1]); path != "" {
				return runPlugin(ctx, r.env, path, args)
			}
		}
	} else if c, _ := r.find(args); c != r.Command {
		r.build(c)
	} else if path := findPlugin(r.env, args[0]); path != "" {
		return runPlugin(ctx, r.env, path, args)
	} else if msg := noPlugin(r.env, args[0]); msg != "" {
		return errors.New(msg)
	}
	r.SetArgs(args)
	return r.ExecuteContext(ctx)
}

// find walks the names at the beginning of args and returns what follows them.
func (r *root) find(args []string) (*cobra.Command, []string) {
	c := r.Command
	for len(args) > 0 {
		i := slices.IndexFunc(c.Commands(), func(s *cobra.Command) bool { return s.Name() == args[0] || s.HasAlias(args[0]) })
		if i < 0 {
			break
		}
		c, args = c.Commands()[i], args[1:]
	}
	return c, args
}
