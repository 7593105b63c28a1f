package main

import (
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// synopsis is what help says of a verb.
type synopsis struct{ verb, args, what string }

// synopses are in the order of a container's life.
func synopses() []synopsis {
	return []synopsis{
		{"spec", "", "write an example of a config.json"},
		{"run", "ID", "create a container of a bundle, start it, and wait for its end"},
		{"create", "ID", "create a container of a bundle; its program waits for start"},
		{"start", "ID", "let the program of a created container run"},
		{"exec", "ID COMMAND [ARGUMENT…]", "run one more process in a container"},
		{"state", "ID", "print a container's state as JSON"},
		{"list", "", "list the containers"},
		{"ps", "ID [OPTION-OF-PS…]", "list a container's processes"},
		{"events", "ID", "print a container's statistics, and when it is out of memory"},
		{"update", "ID", "change a container's limits"},
		{"pause", "ID", "freeze all processes of a container"},
		{"resume", "ID", "let them go on"},
		{"kill", "ID [SIGNAL]", "send a signal to a container's first process; SIGTERM if none is named"},
		{"delete", "ID", "remove a container that has stopped"},
		{"features", "", "print what this runtime implements as JSON"},
	}
}

// overview is the help of the program.
func overview(w io.Writer, f *flags) {
	fmt.Fprintln(w, "usage: lade-runtime [FLAG…] VERB [FLAG…] [ARGUMENT…]")
	fmt.Fprintln(w, "\nStarts containers of OCI bundles.\n\nverbs:")
	t := tabwriter.NewWriter(w, 0, 1, 2, ' ', 0)
	for _, s := range synopses() {
		fmt.Fprintf(t, "  %s\t%s\n", s.verb, s.what)
	}
	t.Flush()
	f.list(w)
	fmt.Fprintln(w, "\n\"lade-runtime VERB --help\" tells the flags of a verb.")
}

// help is that of a verb.
func (f *flags) help(w io.Writer) {
	for _, s := range synopses() {
		if s.verb == f.Name() {
			fmt.Fprintf(w, "usage: %s\n\n%s\n", strings.TrimSpace("lade-runtime "+s.verb+" [FLAG…] "+s.args), s.what)
		}
	}
	f.list(w)
}

// list prints the flags, each with its short name behind it.
func (f *flags) list(w io.Writer) {
	first := true
	t := tabwriter.NewWriter(w, 0, 1, 2, ' ', 0)
	f.VisitAll(func(l *flag.Flag) {
		if slices.ContainsFunc(f.aliases, func(a [2]string) bool { return a[0] == l.Name }) {
			return
		}
		if first {
			fmt.Fprintln(t, "\nflags:")
			first = false
		}
		names := "--" + l.Name
		for _, a := range f.aliases {
			if a[1] == l.Name {
				names += ", -" + a[0]
			}
		}
		value, what := flag.UnquoteUsage(l)
		if value != "" {
			names += " " + strings.ToUpper(value)
		}
		fmt.Fprintf(t, "  %s\t%s\n", names, what)
	})
	t.Flush()
}
