package runtime

import (
	"slices"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// TestExecScore: an additional process is as dear to the kernel, when it is out of
// memory, as the container is, whatever its starter is, and by whichever way it
// comes in.
func TestExecScore(t *testing.T) {
	s := newSandbox(t)
	for name, with := range map[string]func(*Container, *Exec){
		"as usual":              func(*Container, *Exec) {},
		"among tracers":         func(_ *Container, e *Exec) { e.Traced = true },
		"with a user namespace": func(c *Container, _ *Exec) { withUser(c) },
		"with a time namespace": func(c *Container, _ *Exec) {
			c.Spec.Linux.Namespaces = append(c.Spec.Linux.Namespaces, specs.LinuxNamespace{Type: specs.TimeNamespace})
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, e, score := s.container("sleep"), &Exec{}, 321
			c.Spec.Process.OOMScoreAdj = &score
			with(c, e)
			r, err := s.start(c)
			if err != nil {
				t.Fatal(err)
			}
			proc := *c.Spec.Process
			proc.Args = []string{"payload", "report"}
			e.Process = &proc
			out, code := s.exec(r, e)
			if code != 0 {
				t.Fatalf("%d %s", code, out)
			}
			if got := parseReport(t, out).OOMScore; got != "321" {
				t.Errorf("oom_score_adj %s", got)
			}
		})
	}
}

func TestLast(t *testing.T) {
	for _, c := range []struct{ in, want []string }{
		{nil, nil},
		{[]string{"A=1", "AB=2"}, []string{"A=1", "AB=2"}},
		{[]string{"A=1", "B=2", "A="}, []string{"B=2", "A="}},
		{[]string{"A=1", "A=2", "AA=3", "A=4"}, []string{"AA=3", "A=4"}},
		{[]string{"plain", "plain", "=x", "=x"}, []string{"plain", "plain", "=x", "=x"}},
	} {
		if got := last(c.in); !slices.Equal(got, c.want) {
			t.Errorf("%q: %q", c.in, got)
		}
	}
}
