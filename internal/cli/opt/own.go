package opt

import "github.com/spf13/pflag"

// own is the annotation of flags that Docker's client does not have.
const own = "lade"

// Own marks flags, by name, that Docker's client does not have.
func Own(f *pflag.FlagSet, names ...string) {
	for _, n := range names {
		l := f.Lookup(n)
		if l.Annotations == nil {
			l.Annotations = map[string][]string{}
		}
		l.Annotations[own] = []string{}
	}
}

// IsOwn reports whether Docker's client lacks a flag.
func IsOwn(f *pflag.Flag) bool { return f.Annotations[own] != nil }
