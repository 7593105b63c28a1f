package apparmor

import (
	"bufio"
	"os/exec"
	"strings"
	"testing"

	"lade/internal/need"
)

func TestContains(t *testing.T) {
	const list = "lade-default (enforce)\n/usr/bin/man (complain)\nwith blanks (inside) (enforce)\nlade-default//child (enforce)\n"
	for name, want := range map[string]bool{
		"lade-default": true, "/usr/bin/man": true, "with blanks (inside)": true, "lade": false, "": false, "lade-default (enforce)": false,
	} {
		if got, err := contains(bufio.NewScanner(strings.NewReader(list)), name); got != want || err != nil {
			t.Errorf("%q: %v, %v", name, got, err)
		}
	}
}

// TestCompiles has apparmor_parser(8) compile the profile, without loading it:
// a mistake of its grammar is one of every start of the engine.
func TestCompiles(t *testing.T) {
	path := need.Program(t, parser, "Debian's apparmor")
	cmd := exec.CommandContext(t.Context(), path, "--skip-kernel-load", "--skip-cache", "--stdout")
	cmd.Stdin = strings.NewReader(Profile(Default, unconfined))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s\n%s", err, out, Profile(Default, unconfined))
	}
}
