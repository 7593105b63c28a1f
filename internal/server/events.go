package server

import (
	"bytes"
	"net/http"
	"strings"

	"github.com/moby/moby/api/types"

	"lade/internal/engine"
	"lade/internal/errdefs"
	"lade/internal/server/compat"
	"lade/internal/server/stream"
)

// events sends what happens, from a past moment on if one is named.
func (s *server) events(w http.ResponseWriter, r *http.Request) error {
	q := params(r)
	var o engine.EventsOptions
	var err error
	if o.Since, err = q.time("since"); err != nil {
		return err
	}
	if o.Until, err = q.time("until"); err != nil {
		return err
	}
	if !o.Until.IsZero() && o.Until.Before(o.Since) {
		return errdefs.Invalidf("`since` time (%s) cannot be after `until` time (%s)", q.get("since"), q.get("until"))
	}
	if o.Filters, err = q.filters(); err != nil {
		return err
	}
	messages, err := s.backend.Events(r.Context(), o)
	if err != nil {
		return err
	}
	media := eventsMedia(r)
	w.Header().Set("Content-Type", media)
	if err := stream.Begin(w); err != nil {
		return err
	}
	c, out := callOf(r.Context()), stream.NewWriter(w)
	var b bytes.Buffer
	for m, e := range messages {
		if err = e; err != nil {
			break
		}
		b.Reset()
		if media == types.MediaTypeJSONSequence {
			b.Write(stream.Sequence(nil))
		}
		if err = encodeTo(&b, s.compat.Response(c.operation, c.version, &m)); err != nil {
			break
		}
		if _, err = out.Write(b.Bytes()); err != nil {
			break
		}
	}
	return ended(r, err, out.Close())
}

// eventsMedia picks the first form that the client names and we know. Before
// 1.52 there was one, misnamed; JSON lines came with 1.53.
func eventsMedia(r *http.Request) string {
	v := callOf(r.Context()).version
	if v < compat.V1(52) {
		return types.MediaTypeJSON
	}
	for _, accept := range r.Header.Values("Accept") {
		for part := range strings.SplitSeq(accept, ",") {
			media, _, _ := strings.Cut(part, ";")
			switch media = strings.TrimSpace(media); media {
			case types.MediaTypeJSONSequence, types.MediaTypeNDJSON:
				return media
			case types.MediaTypeJSONLines:
				if v >= compat.V1(53) {
					return media
				}
			case types.MediaTypeJSON:
				return media
			}
		}
	}
	if v < compat.V1(53) {
		return types.MediaTypeNDJSON
	}
	return types.MediaTypeJSONLines
}
