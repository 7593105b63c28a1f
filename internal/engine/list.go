package engine

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	apicontainer "github.com/moby/moby/api/types/container"

	"lade/internal/engine/container"
	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/network"
)

// Listed is a container as lists show it. It is not changed: when something that
// lists show of a container changes, another one takes its place, so that who has
// two of one container knows without a look whether they are the same.
type Listed struct {
	apicontainer.Summary
	texts atomic.Pointer[text]
}

// text is the summary in a form that a face gave it; next are other forms.
type text struct {
	form int
	text []byte
	next *text
}

// Text returns the summary in a form, as write has written it, now or before; the
// numbers of forms are the caller's. Nobody may change what it returns.
func (l *Listed) Text(form int, write func(*apicontainer.Summary) []byte) []byte {
	for t := l.texts.Load(); t != nil; t = t.next {
		if t.form == form {
			return t.text
		}
	}
	t := &text{form: form, text: write(&l.Summary)}
	for {
		t.next = l.texts.Load()
		if l.texts.CompareAndSwap(t.next, t) { // twice at the same time does no harm
			return t.text
		}
	}
}

// listing is a Listed with all that it was made of, none of which is ever changed.
type listing struct {
	sources
	from, until time.Time // when the state in words is this; until may be zero: for ever
	shown       *Listed
}

// sources are what a summary is made of, beside the time.
type sources struct {
	record     *container.Record
	connection network.Connection
	image      *image.Image // nil: it is gone
	linkNames  string       // one after another
}

// ContainerList returns the containers that match, newest first. It makes anew
// only what has changed since the last list. Errors: Invalid for a bad filter.
func (e *Engine) ContainerList(ctx context.Context, o ListOptions) ([]*Listed, error) {
	q, err := e.listQuery(o)
	if err != nil {
		return nil, err
	}
	all := e.containers.list()
	out := make([]*Listed, 0, len(all))
	l := lister{viewer: e.viewer, now: time.Now(), images: map[string]*image.Image{}, linkNames: q.linkNames}
	for _, a := range all {
		r := a.View()
		if r.State == container.Gone || !q.match(e, r) {
			continue
		}
		s := l.show(a, r)
		if o.Size {
			if s, err = e.sized(ctx, s, r); err != nil {
				return nil, err
			}
		}
		if out = append(out, s); len(out) == o.Limit {
			break
		}
	}
	return out, nil
}

// sized adds the sizes, which are of this moment only.
func (e *viewer) sized(ctx context.Context, s *Listed, r *container.Record) (*Listed, error) {
	rw, root, err := e.Sizes(ctx, r)
	if err != nil && errdefs.KindOf(err) != errdefs.NotFound {
		return nil, err
	}
	own := &Listed{Summary: s.Summary}
	own.SizeRw, own.SizeRootFs = rw, root
	return own, nil
}

// lister makes one list.
type lister struct {
	*viewer
	now    time.Time
	images map[string]*image.Image // by id: many containers have few
	// linkNames are by the ids of containers.
	linkNames map[string][]string
}

// show returns what is shown of a container. What it is made of is looked at
// before it is made: a change meanwhile shows in the next list at the latest.
func (l *lister) show(a *indexed, r *container.Record) *Listed {
	from := sources{record: r, connection: l.Networks.Connection(r.ID), image: l.image(r), linkNames: strings.Join(l.linkNames[r.ID], "")}
	was := a.listing.Load()
	same := was != nil && was.sources == from
	if same && !l.now.Before(was.from) && (was.until.IsZero() || l.now.Before(was.until)) {
		return was.shown
	}
	text, until := status(r, l.now)
	now := &listing{sources: from, from: l.now, until: until}
	switch {
	case !same:
		now.shown = &Listed{Summary: l.summary(r, from.image, text, l.linkNames[r.ID])}
	case was.shown.Status == text:
		now.shown = was.shown
	default: // only time has passed
		now.shown = &Listed{Summary: was.shown.Summary}
		now.shown.Status = text
	}
	a.listing.Store(now)
	return now.shown
}

// image returns a container's image, nil if it is gone.
func (l *lister) image(r *container.Record) *image.Image {
	img, known := l.images[r.ImageID]
	if !known {
		var err error
		if img, err = l.imageOf(r); err != nil {
			img = nil
		}
		l.images[r.ImageID] = img
	}
	return img
}
