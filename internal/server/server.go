package server

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"strconv"
	"sync"

	"lade/internal/server/authz"
	"lade/internal/server/compat"
	"lade/internal/server/metrics"
)

// Options is how the server presents itself.
type Options struct {
	Version string       // of the engine, shown in the Server header
	Builder string       // the builder that clients should use: "2" BuildKit (default), "1" the classic one
	Logger  *slog.Logger // nil discards
	// Experimental is said to clients of experimental features.
	Experimental bool
	// Load is told of the work that requests are: of more when one begins, of so
	// much less when it is answered. It is called by several goroutines. May be nil.
	Load func(change int)
	// Oldest is the oldest version of the API that is spoken; 0: compat.Oldest.
	Oldest compat.Version
	// Authorization is who must agree to each request; nil: nobody.
	Authorization *authz.Chain
}

type server struct {
	backend Backend
	log     *slog.Logger
	compat  *compat.Table
	agent   string // the Server header
	// experimental is the Docker-Experimental header.
	experimental string
	builder      string
	oldest       compat.Version
	load         func(change int)
	authz        *authz.Chain
	buffers      sync.Pool // of *bytes.Buffer
	lists        listBodies

	operations metrics.Operations
}

// New returns the handler of the whole API. It may serve any number of
// listeners at a time.
func New(backend Backend, o Options) http.Handler {
	s := &server{
		backend: backend,
		log:     o.Logger,
		compat:  compat.New(),
		// Clients read the operating system from it.
		agent:        "Docker/" + o.Version + " (linux)",
		builder:      o.Builder,
		experimental: strconv.FormatBool(o.Experimental),
		load:         o.Load,
		oldest:       max(o.Oldest, compat.Oldest),
		authz:        o.Authorization,
		buffers:      sync.Pool{New: func() any { return new(bytes.Buffer) }},
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.load == nil {
		s.load = func(int) {}
	}
	if s.builder == "" {
		s.builder = "2"
	}
	mux := http.NewServeMux()
	for _, r := range s.routes() {
		mux.Handle(r.method+" "+r.path, s.serve(r))
	}
	mux.HandleFunc("/", s.pageNotFound)
	if s.authz == nil {
		return normalise(mux)
	}
	return normalise(s.authz.Handler(mux, asked, s.log))
}

// asked is what a request is for, as normalise has understood it.
func asked(r *http.Request) string {
	return authz.Canonical(callOf(r.Context()).named, r.URL.Path, r.URL.RawQuery)
}

// call is what is known of a request beside the request itself.
type call struct {
	named     string // the version as the path names it, "" if none
	version   compat.Version
	operation string
	query     query
}

type callKey struct{}

// callOf returns the call that normalise put into the request's context.
func callOf(ctx context.Context) *call {
	c, ok := ctx.Value(callKey{}).(*call)
	if !ok {
		return &call{version: compat.Newest} // a handler used without normalise
	}
	return c
}

// params returns the query of the request, adjusted for its version.
func params(r *http.Request) query { return callOf(r.Context()).query }

// lasting returns a context for work that must not stop when the client goes
// away.
func lasting(r *http.Request) context.Context { return context.WithoutCancel(r.Context()) }
