package main

import (
	"errors"
	"flag"
	"io"
	"os"
	"strings"

	"lade/internal/errdefs"
)

// flags are a verb's, by the long names and the short ones of runc.
type flags struct {
	*flag.FlagSet
	aliases [][2]string // the short name, the long one
}

func newFlags(name string) *flags {
	f := flag.NewFlagSet(name, flag.ContinueOnError)
	f.SetOutput(io.Discard)
	return &flags{FlagSet: f}
}

// alias gives a flag a second name.
func (f *flags) alias(short, name string) {
	l := f.Lookup(name)
	f.Var(l.Value, short, l.Usage)
	f.aliases = append(f.aliases, [2]string{short, name})
}

// Parse is that of flag.FlagSet, and answers --help.
func (f *flags) Parse(args []string) error {
	err := f.FlagSet.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		f.help(os.Stdout)
	}
	return err
}

// anywhere parses flags that may also stand after and between the arguments,
// and returns the arguments.
func (f *flags) anywhere(args []string) (rest []string, err error) {
	for {
		if err := f.Parse(args); err != nil {
			return nil, err
		}
		if f.NArg() == 0 {
			return rest, nil
		}
		if n := len(args) - f.NArg(); n > 0 && args[n-1] == "--" {
			return append(rest, f.Args()...), nil
		}
		rest, args = append(rest, f.Arg(0)), f.Args()[1:]
	}
}

// one parses flags around a container's id and nothing else.
func (f *flags) one(args []string) (string, error) {
	rest, err := f.anywhere(args)
	if err != nil {
		return "", err
	}
	if len(rest) != 1 {
		return "", f.wants("exactly 1 argument")
	}
	return rest[0], nil
}

// none parses flags without any argument.
func (f *flags) none(args []string) error {
	rest, err := f.anywhere(args)
	if err == nil && len(rest) > 0 {
		err = f.wants("no argument")
	}
	return err
}

// wants is the error of another number of arguments.
func (f *flags) wants(what string) error {
	return errdefs.Invalidf("lade-runtime: \"%s\" requires %s", f.Name(), what)
}

// words is a flag that may be given again and again.
type words []string

func (w *words) String() string     { return strings.Join(*w, " ") }
func (w *words) Set(s string) error { *w = append(*w, s); return nil }
