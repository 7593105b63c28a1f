package conformance

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lade/internal/need"
	"lade/test/harness"
)

// upstream are a project's own tests of an engine, as the project publishes them.
// testdata/suites says what cannot pass, and why.
type upstream struct {
	name     string
	source   source
	packages []string // directories of tests, run one after another
	// prepare starts the engine, with what the tests count on.
	prepare func(*testing.T, *stage)
	without []string // tests that are not run: testdata/suites has the reason
}

// stage is where the tests of a suite run.
type stage struct {
	dir string // of the source; the tests' programs are below bin
	e   *harness.Engine
	env []string // of the tests, beside this process's
}

// suites in the order of their names.
var suites = []upstream{dockerCLI, mobyEngine}

// TestSuites runs them, and keeps the table of docs/compatibility.md. What the
// tests print is kept in the directory LADE_SUITE_LOGS, if there is one; what is
// there already is judged again, and not run.
func TestSuites(t *testing.T) {
	full(t)
	logs := os.Getenv("LADE_SUITE_LOGS")
	if logs == "" {
		logs = t.TempDir()
	}
	var all verdicts
	for _, s := range suites {
		t.Run(s.name, func(t *testing.T) {
			known, got, st := readKnown(t, s.name), outcomes{}, new(stage)
			for _, p := range s.packages {
				log := filepath.Join(logs, s.name+"-"+strings.ReplaceAll(p, "/", "-")+".log")
				out, err := os.ReadFile(log)
				if err != nil {
					if st.dir == "" {
						st.dir = s.source.build(t, s.packages)
						s.prepare(t, st)
					}
					out = s.run(t, st, p)
					err = os.WriteFile(log, out, 0o644)
				}
				if err != nil {
					t.Fatal(err)
				}
				got.add(readOutcomes(filepath.Base(p), string(out)))
			}
			known.judge(t, got)
			all.add(s, got, known)
		})
	}
	all.publish(t, page)
}

// run runs the tests of one package, and returns what they print.
func (s upstream) run(t *testing.T, st *stage, dir string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), need.Patience(20*time.Minute))
	defer cancel()
	args := []string{"-test.v", "-test.parallel=1"}
	if len(s.without) > 0 {
		args = append(args, "-test.skip=^("+strings.Join(s.without, "|")+")$")
	}
	cmd := exec.CommandContext(ctx, program(st.dir, dir), args...)
	cmd.Dir = filepath.Join(st.dir, dir)
	cmd.Env = append(os.Environ(), st.env...)
	cmd.WaitDelay = time.Second // what a test leaves running may hold the output
	out, err := cmd.CombinedOutput()
	if _, failed := errors.AsType[*exec.ExitError](err); err != nil && !failed && !errors.Is(err, exec.ErrWaitDelay) {
		t.Errorf("%s: %v", dir, err)
	}
	if len(readOutcomes(dir, string(out))) == 0 {
		t.Errorf("%s: %v: no test was run\n%s", dir, err, out)
	}
	return out
}
