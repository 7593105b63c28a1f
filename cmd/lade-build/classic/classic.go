package classic

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"sync"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/control"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/identity"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/util/entitlements"
	apibuild "github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/jsonstream"

	"lade/cmd/lade-build/unpack"
	"lade/internal/digest"
	"lade/internal/errdefs"
	"lade/internal/reference"
)

// maxDockerfile is how long a Dockerfile may be, in bytes.
const maxDockerfile = 16 << 20

// Builder serves builds.
type Builder struct {
	controller *control.Controller
	sessions   *session.Manager
	dir        string

	mu      sync.Mutex
	running map[string]context.CancelFunc // builds with an id, by that
}

// New returns a builder that unpacks contexts below dir.
func New(c *control.Controller, sm *session.Manager, dir string) (*Builder, error) {
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	return &Builder{controller: c, sessions: sm, dir: dir, running: map[string]context.CancelFunc{}}, os.MkdirAll(dir, 0o700)
}

// Cancel ends the build of that id, if there is one.
func (b *Builder) Cancel(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if cancel := b.running[id]; cancel != nil {
		cancel()
	}
}

// cancelable lets a build be cancelled by its id.
func (b *Builder) cancelable(ctx context.Context, id string) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	if id == "" {
		return ctx, cancel
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.running[id] = cancel
	return ctx, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.running, id)
		cancel()
	}
}

// Build serves one request. It returns the error as long as nothing was answered:
// of bad parameters, contexts and Dockerfiles. Later ones are in the stream.
func (b *Builder) Build(w http.ResponseWriter, r *http.Request) error {
	o, err := read(r)
	if err != nil {
		return err
	}
	ctx, done := b.cancelable(r.Context(), o.id)
	defer done()
	dir, err := os.MkdirTemp(b.dir, "")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var p []step
	if o.remote == "" {
		if p, err = b.local(ctx, r, &o, dir); err != nil {
			return err
		}
	} else {
		o.attrs["context"] = o.remote
	}
	out := newStream(w, o.quiet)
	id, err := b.solve(ctx, &o, p, dir, out)
	if err != nil {
		out.fail(err)
		return nil
	}
	out.result(id, o.tags)
	return nil
}

// local unpacks the context and reads the Dockerfile in it.
func (b *Builder) local(ctx context.Context, r *http.Request, o *options, dir string) ([]step, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	if err := unpack.Tar(ctx, r.Body, root); err != nil {
		return nil, err
	}
	f, err := root.Open(o.dockerfile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errdefs.Invalidf("Cannot locate specified Dockerfile: %s", o.dockerfile) //nolint:staticcheck // Docker's words
	}
	if err != nil {
		return nil, errdefs.Invalidf("the Dockerfile cannot be read: %w", err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() || fi.Size() > maxDockerfile {
		return nil, errdefs.Invalidf("the Dockerfile %s is no file of at most %d bytes", o.dockerfile, maxDockerfile)
	}
	if fi.Size() == 0 {
		return nil, errdefs.Invalidf("the Dockerfile (%s) cannot be empty", o.dockerfile)
	}
	ast, err := parser.Parse(f)
	if err != nil {
		return nil, errdefs.Invalidf("%w", err)
	}
	stages, args, err := instructions.Parse(ast.AST, linter.New(&linter.Config{}))
	if err != nil {
		return nil, errdefs.Invalidf("%w", err)
	}
	if len(stages) == 0 {
		return nil, errdefs.Invalidf("No build stage in current context") //nolint:staticcheck // Docker's words
	}
	if t := o.attrs["target"]; t != "" {
		if _, ok := instructions.HasStage(stages, t); !ok {
			return nil, errdefs.Invalidf("target stage %q could not be found", t)
		}
	}
	return plan(stages, args, o.attrs["target"]), nil
}

// solve has BuildKit build and returns the image's id.
func (b *Builder) solve(ctx context.Context, o *options, p []step, dir string, out *stream) (digest.Digest, error) {
	s, ended, err := b.attach(ctx, dir, o)
	if err != nil {
		return "", err
	}
	defer ended()
	q := &controlapi.SolveRequest{
		Ref:           identity.NewID(),
		Exporters:     []*controlapi.Exporter{{Type: "moby", Attrs: map[string]string{"name": strings.Join(o.tags, ",")}}},
		Frontend:      "dockerfile.v0",
		FrontendAttrs: o.attrs,
		Session:       s.ID(),
		Cache:         &controlapi.CacheOptions{},
	}
	if o.inline {
		q.Cache.Exports = append(q.Cache.Exports, &controlapi.CacheOptionsEntry{Type: "inline"})
	}
	if o.hostNet {
		q.Entitlements = append(q.Entitlements, string(entitlements.EntitlementNetworkHost))
	}
	shown := newSteps(p, out.say)
	watched := make(chan error, 1)
	go func() {
		// It ends with the build, and tells of what happened until then.
		watched <- b.controller.Status(&controlapi.StatusRequest{Ref: q.Ref}, &watch{ctx: context.WithoutCancel(ctx), steps: shown})
	}()
	resp, err := b.controller.Solve(ctx, q)
	if watchErr := <-watched; err == nil {
		err = watchErr
	}
	shown.finish(err != nil)
	if err != nil {
		return "", explain(err, shown)
	}
	id, err := digest.Parse(resp.ExporterResponse["containerimage.digest"])
	if err != nil {
		return "", fmt.Errorf("the builder has told no image: %w", err)
	}
	return id, nil
}

// stream is the answer: one JSON object after the other.
type stream struct {
	w     http.ResponseWriter
	e     *json.Encoder
	quiet bool
	held  bytes.Buffer // what was said in quiet mode, in case it fails
}

func newStream(w http.ResponseWriter, quiet bool) *stream {
	w.Header().Set("Content-Type", "application/json")
	return &stream{w: w, e: json.NewEncoder(w), quiet: quiet}
}

// line is a message with the error as older clients read it.
type line struct {
	jsonstream.Message
	Text string `json:"error,omitempty"`
}

// send writes one object. A client that is gone hears nothing, and the context
// of its request ends the build.
func (s *stream) send(m jsonstream.Message) {
	l := line{Message: m}
	if m.Error != nil {
		l.Text = m.Error.Message
	}
	if s.e.Encode(l) == nil {
		_ = http.NewResponseController(s.w).Flush()
	}
}

func (s *stream) say(text string) {
	if s.quiet {
		s.held.WriteString(text)
		return
	}
	s.send(jsonstream.Message{Stream: text})
}

func (s *stream) fail(err error) {
	if s.quiet {
		s.send(jsonstream.Message{Stream: s.held.String()})
	}
	e := &jsonstream.Error{Message: err.Error()}
	if x, ok := errors.AsType[*exitError](err); ok {
		e.Code = x.code
	}
	s.send(jsonstream.Message{Error: e})
}

// result tells which image it has become.
func (s *stream) result(id digest.Digest, tags []string) {
	aux, err := json.Marshal(apibuild.Result{ID: id.String()})
	if err == nil {
		raw := json.RawMessage(aux)
		s.send(jsonstream.Message{Aux: &raw})
	}
	if s.quiet {
		s.send(jsonstream.Message{Stream: id.String() + "\n"})
		return
	}
	s.say("Successfully built " + id.Short() + "\n")
	for _, t := range tags {
		if ref, err := reference.Parse(t); err == nil {
			s.say("Successfully tagged " + ref.Familiar() + "\n")
		}
	}
}
