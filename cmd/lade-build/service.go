package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/moby/buildkit/cache/remotecache"
	"github.com/moby/buildkit/cache/remotecache/inline"
	localcache "github.com/moby/buildkit/cache/remotecache/local"
	registrycache "github.com/moby/buildkit/cache/remotecache/registry"
	"github.com/moby/buildkit/control"
	"github.com/moby/buildkit/frontend"
	dockerfile "github.com/moby/buildkit/frontend/dockerfile/builder"
	"github.com/moby/buildkit/frontend/gateway"
	"github.com/moby/buildkit/frontend/gateway/forwarder"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/solver"
	"github.com/moby/buildkit/solver/bboltcachestorage"
	"github.com/moby/buildkit/util/db/boltutil"
	"github.com/moby/buildkit/util/entitlements"
	"github.com/moby/buildkit/util/grpcerrors"
	buildkitworker "github.com/moby/buildkit/worker"
	"github.com/moby/moby/api/types/common"
	bolt "go.etcd.io/bbolt"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"

	"lade/cmd/lade-build/classic"
	"lade/cmd/lade-build/worker"
	"lade/internal/build"
	"lade/internal/errdefs"
)

// service is what laded passes requests on to.
type service struct {
	sessions   *session.Manager
	controller *control.Controller
	worker     *worker.Worker
	grpc       *grpc.Server
	builder    *classic.Builder
}

// newService opens the cache and assembles BuildKit.
func newService(ctx context.Context, c build.Config) (*service, error) {
	s := &service{}
	var err error
	if s.sessions, err = session.NewManager(); err != nil {
		return nil, err
	}
	hosts := docker.ConfigureDefaultRegistries()
	if s.worker, err = worker.New(ctx, c, build.NewHost(c.Host), hosts); err != nil {
		return nil, err
	}
	wc := &buildkitworker.Controller{}
	if err := wc.Add(s.worker); err != nil {
		return nil, err
	}
	cache, err := bboltcachestorage.NewStore(filepath.Join(c.Root, "cache.db"))
	if err != nil {
		return nil, err
	}
	history, err := boltutil.SafeOpen(filepath.Join(c.Root, "history.db"), 0o600, &bolt.Options{FreelistType: bolt.FreelistMapType, NoFreelistSync: true})
	if err != nil {
		return nil, err
	}
	images, err := gateway.NewGatewayFrontend(wc.Infos(), nil)
	if err != nil {
		return nil, err
	}
	s.controller, err = control.NewController(control.Opt{
		SessionManager:   s.sessions,
		WorkerController: wc,
		Frontends: map[string]frontend.Frontend{
			"dockerfile.v0": forwarder.NewGatewayForwarder(wc.Infos(), dockerfile.Build),
			"gateway.v0":    images,
		},
		CacheManager: solver.NewCacheManager(ctx, "local", cache, buildkitworker.NewCacheResultStorage(wc)),
		ResolveCacheExporterFuncs: map[string]remotecache.ResolveCacheExporterFunc{
			"inline":   inline.ResolveCacheExporterFunc(),
			"local":    localcache.ResolveCacheExporterFunc(s.sessions),
			"registry": registrycache.ResolveCacheExporterFunc(s.sessions, hosts),
		},
		ResolveCacheImporterFuncs: map[string]remotecache.ResolveCacheImporterFunc{
			"local":    localcache.ResolveCacheImporterFunc(s.sessions),
			"registry": registrycache.ResolveCacheImporterFunc(s.sessions, s.worker.ContentStore(), hosts),
		},
		// As in Docker: host networks for who asks for them, but no privileges.
		Entitlements:   []string{string(entitlements.EntitlementNetworkHost)},
		HistoryDB:      history,
		CacheStore:     cache,
		LeaseManager:   s.worker.LeaseManager(),
		ContentStore:   s.worker.ContentStore(),
		GarbageCollect: s.worker.GarbageCollect,
	})
	if err != nil {
		return nil, err
	}
	s.grpc = grpc.NewServer(grpc.UnaryInterceptor(grpcerrors.UnaryServerInterceptor), grpc.StreamInterceptor(grpcerrors.StreamServerInterceptor))
	s.controller.Register(s.grpc)
	// Contexts can be large: they are on the disk, beside the cache.
	s.builder, err = classic.New(s.controller, s.sessions, filepath.Join(c.Root, "contexts"))
	return s, err
}

// end ends what is under way, and waits for its steps. The cache needs no closing:
// it is as it would be after a crash, of which there is nothing to repair.
func (s *service) end() {
	s.grpc.Stop()
	s.worker.Wait()
}

func (s *service) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /grpc", s.serveGRPC)
	mux.HandleFunc("POST /session", func(w http.ResponseWriter, r *http.Request) {
		if err := s.sessions.HandleHTTPRequest(r.Context(), w, r); err != nil {
			fail(w, errdefs.Invalidf("%w", err))
		}
	})
	mux.HandleFunc("POST /build", func(w http.ResponseWriter, r *http.Request) {
		if err := s.builder.Build(w, r); err != nil {
			fail(w, err)
		}
	})
	mux.HandleFunc("POST /build/cancel", func(_ http.ResponseWriter, r *http.Request) { s.builder.Cancel(r.URL.Query().Get("id")) })
	mux.HandleFunc("POST /build/prune", func(w http.ResponseWriter, r *http.Request) { reply(w)(s.prune(r)) })
	mux.HandleFunc("GET "+build.UsagePath, func(w http.ResponseWriter, r *http.Request) { reply(w)(s.usage(r)) })
	return mux
}

// reply answers with a value or an error.
func reply(w http.ResponseWriter) func(v any, err error) {
	return func(v any, err error) {
		if err != nil {
			fail(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v) // laded has gone: it hears nothing
	}
}

// fail answers with an error. laded passes the status on.
func fail(w http.ResponseWriter, err error) {
	code := http.StatusInternalServerError
	switch errdefs.KindOf(err) {
	case errdefs.Invalid:
		code = http.StatusBadRequest
	case errdefs.NotFound:
		code = http.StatusNotFound
	case errdefs.NotImplemented:
		code = http.StatusNotImplemented
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(common.ErrorResponse{Message: err.Error()}) // as above
}

// serveGRPC speaks gRPC on the connection of a request.
func (s *service) serveGRPC(w http.ResponseWriter, r *http.Request) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		fail(w, fmt.Errorf("take over the connection: %w", err))
		return
	}
	defer conn.Close()
	if conn.SetDeadline(time.Time{}) != nil {
		return
	}
	if _, err := conn.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")); err != nil {
		return
	}
	(&http2.Server{}).ServeConn(conn, &http2.ServeConnOpts{Context: r.Context(), Handler: s.grpc})
}
