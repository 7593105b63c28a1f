package daemon

import (
	"context"
	"log/slog"
	"net"
	"net/http"

	"lade/internal/errdefs"
)

// checkMetrics checks the address. Errors: Invalid.
func (a *API) checkMetrics() error {
	if a.Metrics == "" {
		return nil
	}
	if _, _, err := net.SplitHostPort(a.Metrics); err != nil {
		return errdefs.Invalidf("invalid metrics address %q: %w", a.Metrics, err)
	}
	return nil
}

// listenMetrics opens the listener for the numbers; nil where none is wanted.
func listenMetrics(c *Config) (net.Listener, error) {
	if c.Metrics == "" {
		return nil, nil
	}
	l, err := net.Listen("tcp", c.Metrics)
	if err != nil {
		return nil, errdefs.Invalidf("cannot serve metrics: %w", err)
	}
	return l, nil
}

// serveMetrics answers requests for the numbers, and no others: whoever can
// connect may read them, and do nothing. It returns when ctx ends.
func serveMetrics(ctx context.Context, l net.Listener, api http.Handler, o serveOptions) {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", api)
	if err := serve(ctx, mux, []net.Listener{l}, o); err != nil {
		o.Logger.Error("metrics are not served any more", "error", err)
	}
}

// warnMetrics says what everyone can read.
func warnMetrics(l net.Listener, log *slog.Logger) {
	if a, ok := l.Addr().(*net.TCPAddr); ok && !a.IP.IsLoopback() {
		log.Warn("names of containers and images can be read by everyone who reaches the metrics", "address", a.String())
	}
}
