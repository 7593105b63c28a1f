package app

import (
	"github.com/docker/go-units"

	"lade/internal/cli/opt"
)

// A Prune removes what is unused and returns what it was, in words, empty if
// there was nothing, and the bytes that it freed.
type Prune func() (removed string, freed uint64, err error)

// Prune does one after another and prints what each has removed, and the space
// that all have freed.
func (e *Env) Prune(all ...Prune) error {
	var total uint64
	for _, prune := range all {
		removed, freed, err := prune()
		if err != nil {
			return err
		}
		total += freed
		if removed == "" {
			continue
		}
		if err := e.Println(removed); err != nil {
			return err
		}
	}
	return e.Println("Total reclaimed space:", units.HumanSize(float64(total)))
}

// ConfirmPrune asks whether a command may go on. The answer "no" is an error
// that ends the command without a word and with success: the user chose so.
func (e *Env) ConfirmPrune(command, warning string) error {
	yes, err := e.Confirm(warning)
	if err == nil && !yes {
		err = canceled{command + " has been cancelled"}
	}
	return err
}

// canceled is the answer "no".
type canceled struct{ msg string }

func (c canceled) Error() string { return c.msg }

// Cancelled marks the kind, see containerd/errdefs.
func (canceled) Cancelled() {}

// AddPruneFilters adds the filters that config.json has for every prune.
func (e *Env) AddPruneFilters(f *opt.Filter) {
	for _, v := range e.Config().PruneFilters() {
		// A malformed entry would be refused as a flag; here it is passed over.
		_ = f.Set(v)
	}
}
