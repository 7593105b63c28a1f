package server

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types"

	"lade/internal/engine"
	"lade/internal/errdefs"
	"lade/internal/logs"
	"lade/internal/server/compat"
	"lade/internal/server/stream"
)

// stamp is the form of time stamps in logs: always nine digits.
const stamp = "2006-01-02T15:04:05.000000000Z07:00"

// containerLogs sends a container's output, raw when it has a terminal,
// otherwise in frames that tell its two streams apart.
func (s *server) containerLogs(w http.ResponseWriter, r *http.Request) error {
	q := params(r)
	o, err := logsOptions(q)
	if err != nil {
		return err
	}
	log, err := s.backend.ContainerLogs(r.Context(), r.PathValue("id"), o)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", mediaType(r, log.Tty))
	if err := stream.Begin(w); err != nil {
		return err
	}
	out := stream.NewWriter(w)
	form := logForm{raw: log.Tty, timestamps: q.bool("timestamps"), details: q.bool("details")}
	var b []byte
	for m, e := range log.Messages {
		if e != nil {
			if r.Context().Err() == nil {
				// The header is gone; the error is all that can be said.
				b = form.append(b[:0], logs.Message{Stream: logs.Stderr, Time: time.Now(), Line: []byte("Error grabbing logs: " + e.Error() + "\n")})
				_, err = out.Write(b)
			}
			break
		}
		b = form.append(b[:0], m)
		if _, err = out.Write(b); err != nil {
			break
		}
	}
	return ended(r, err, out.Close())
}

func logsOptions(q query) (o engine.LogsOptions, err error) {
	o = engine.LogsOptions{Stdout: q.bool("stdout"), Stderr: q.bool("stderr"), Follow: q.bool("follow"), Tail: -1}
	if !o.Stdout && !o.Stderr {
		return o, errdefs.Invalidf("must specify at least one of 'stdout' or 'stderr'")
	}
	if o.Since, err = q.time("since"); err != nil {
		return o, err
	}
	if o.Until, err = q.time("until"); err != nil {
		return o, err
	}
	// Docker takes everything that is no number, "all" above all, as all.
	if n, err := strconv.Atoi(q.get("tail")); err == nil && n >= 0 {
		o.Tail = n
	}
	return o, nil
}

// mediaType names the kind of a container's stream. Before 1.42 there was one
// name for both kinds.
func mediaType(r *http.Request, tty bool) string {
	if tty || callOf(r.Context()).version < compat.V1(42) {
		return types.MediaTypeRawStream
	}
	return types.MediaTypeMultiplexedStream
}

// logForm is how messages are written.
type logForm struct{ raw, timestamps, details bool }

func (f logForm) append(b []byte, m logs.Message) []byte {
	var prefix []byte
	if f.timestamps {
		prefix = m.Time.UTC().AppendFormat(prefix, stamp)
		prefix = append(prefix, ' ')
	}
	if f.details {
		prefix = append(prefix, attributes(m.Attrs)...)
		prefix = append(prefix, ' ')
	}
	if !f.raw {
		b = stream.Frame(b, m.Stream, len(prefix)+len(m.Line))
	}
	b = append(b, prefix...)
	return append(b, m.Line...)
}

// attributes writes name=value pairs, ordered and escaped.
func attributes(attrs map[string]string) string {
	pairs := make([]string, 0, len(attrs))
	for _, k := range slices.Sorted(maps.Keys(attrs)) {
		pairs = append(pairs, url.QueryEscape(k)+"="+url.QueryEscape(attrs[k]))
	}
	return strings.Join(pairs, ",")
}
