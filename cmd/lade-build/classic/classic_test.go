package classic

import (
	"errors"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"google.golang.org/protobuf/types/known/timestamppb"

	"lade/internal/errdefs"
)

func planned(t *testing.T, dockerfile string) []step {
	t.Helper()
	ast, err := parser.Parse(strings.NewReader(dockerfile))
	if err != nil {
		t.Fatal(err)
	}
	stages, args, err := instructions.Parse(ast.AST, linter.New(&linter.Config{}))
	if err != nil {
		t.Fatal(err)
	}
	return plan(stages, args, "")
}

// TestSteps tells of a graph in its own order, and expects the Dockerfile's.
func TestSteps(t *testing.T) {
	var out strings.Builder
	s := newSteps(planned(t, "FROM a AS one\nRUN x\nFROM b\nENV K=v\nCOPY --from=one /x /\nRUN y\nCMD z\n"), func(s string) { out.WriteString(s) })
	now := timestamppb.Now()
	began := func(name string) *controlapi.Vertex {
		return &controlapi.Vertex{Digest: name, Name: name, Started: now}
	}
	ended := func(name string) *controlapi.Vertex {
		return &controlapi.Vertex{Digest: name, Name: name, Started: now, Completed: now}
	}
	hit := func(name string) *controlapi.Vertex {
		return &controlapi.Vertex{Digest: name, Name: name, Cached: true, Started: now, Completed: now}
	}
	tell := func(v ...*controlapi.Vertex) { s.update(&controlapi.StatusResponse{Vertexes: v}) }
	tell(ended("[internal] load build context"), ended("[stage-1 1/3] FROM b"), began("[one 1/2] FROM a"))
	if got := out.String(); got != "Step 1/7 : FROM a AS one\n" {
		t.Errorf("began: %q", got)
	}
	tell(ended("[one 1/2] FROM a"), began("[one 2/2] RUN x"))
	s.update(&controlapi.StatusResponse{Logs: []*controlapi.VertexLog{{Vertex: "[one 2/2] RUN x", Msg: []byte("said\n")}}})
	tell(ended("[one 2/2] RUN x"), hit("[stage-1 2/3] COPY --from=one /x /"), began("[stage-1 3/3] RUN y"), &controlapi.Vertex{Digest: "[stage-1 3/3] RUN y", Name: "[stage-1 3/3] RUN y", Started: now, Completed: now, Error: "no"})
	s.finish(true)
	want := "Step 1/7 : FROM a AS one\nStep 2/7 : RUN x\nsaid\nStep 3/7 : FROM b\nStep 4/7 : ENV K=v\nStep 5/7 : COPY --from=one /x /\n ---> Using cache\nStep 6/7 : RUN y\n"
	if got := out.String(); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// TestStepsUnused: a stage that nothing needs has no vertices, and holds nothing up
// in the end.
func TestStepsUnused(t *testing.T) {
	var out strings.Builder
	s := newSteps(planned(t, "FROM a\nRUN x\nFROM scratch\nCOPY f /\n"), func(s string) { out.WriteString(s) })
	now := timestamppb.Now()
	s.update(&controlapi.StatusResponse{Vertexes: []*controlapi.Vertex{{Digest: "d", Name: "[stage-1 1/1] COPY f /", Started: now, Completed: now}}})
	s.finish(false)
	if got := out.String(); !strings.HasSuffix(got, "Step 3/4 : FROM scratch\nStep 4/4 : COPY f /\n") {
		t.Errorf("%q", got)
	}
}

// TestOptions: bad parameters are refused, with a kind that clients understand.
func TestOptions(t *testing.T) {
	for _, x := range []struct {
		query string
		want  errdefs.Kind
	}{
		{"t=Bad:Name", errdefs.Invalid},
		{"t=a@sha256:" + strings.Repeat("0", 64), errdefs.Invalid},
		{"buildargs=x", errdefs.Invalid},
		{"labels=[]", errdefs.Invalid},
		{"ulimits={}", errdefs.Invalid},
		{"networkmode=mine", errdefs.Invalid},
		{"extrahosts=x", errdefs.Invalid},
		{"shmsize=x", errdefs.Invalid},
		{"platform=a/b/c/d/e", errdefs.Invalid},
		{"memory=1000", errdefs.NotImplemented},
		{"version=2", errdefs.NotImplemented},
		{"squash=1", errdefs.NotImplemented},
	} {
		if _, err := read(httptest.NewRequest("POST", "/build?"+x.query, nil)); errdefs.KindOf(err) != x.want {
			t.Errorf("%s: %v", x.query, err)
		}
	}
	q := url.Values{"dockerfile": {"../d/../File"}, "t": {"a", "b:1"}, "buildargs": {`{"A":"1","B":null}`}, "networkmode": {"host"}, "nocache": {"1"}, "target": {"x"}}
	o, err := read(httptest.NewRequest("POST", "/build?"+q.Encode(), nil))
	if err != nil || o.dockerfile != "File" || strings.Join(o.tags, " ") != "docker.io/library/a:latest docker.io/library/b:1" || o.attrs["build-arg:A"] != "1" || !o.hostNet {
		t.Errorf("%+v, %v", o, err)
	}
	if _, set := o.attrs["build-arg:B"]; set {
		t.Error("an argument without value is set")
	}
}

func TestExplain(t *testing.T) {
	s := newSteps(planned(t, "FROM a\nCOPY nothing /\n"), func(string) {})
	s.next = 1
	for from, want := range map[string]string{
		`failed to solve: process "/bin/sh -c echo \"x\"; exit 3" did not complete successfully: exit code: 3`: `The command '/bin/sh -c echo "x"; exit 3' returned a non-zero code: 3`,
		`failed to calculate checksum of ref a::b: "/nothing": not found`:                                      "COPY failed: file not found in build context or excluded by .dockerignore: stat nothing: file does not exist",
		"something else": "something else",
	} {
		if got := explain(errors.New(from), s).Error(); got != want {
			t.Errorf("%s\ngot  %s\nwant %s", from, got, want)
		}
	}
}
