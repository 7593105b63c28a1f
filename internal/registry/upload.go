package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/jsonstream"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/registry/remote/auth"

	"lade/internal/digest"
	"lade/internal/errdefs"
	"lade/internal/image"
)

// upload is one blob on its way to a registry.
//
//	HEAD  blobs/<digest>                                200: it is there
//	POST  blobs/uploads/?mount=<digest>&from=<other>    201: mounted; 202: an upload begins, as without mount
//	PUT   <location>?digest=<digest>                    all of it, up to a chunk
//	PATCH <location>, Content-Range 0-n …               chunk by chunk otherwise, then an empty PUT
//	GET   <location>                                    after a cut: how much has arrived
//
// Source: OCI distribution-spec, "Pushing blobs", "Mounting a blob from another repository".
type upload struct {
	p  *push
	d  ocispec.Descriptor
	id string // for the client; "": nothing is told of it
}

// say tells the client of the layer; done is in bytes, 0 for none.
func (u *upload) say(status string, done int64) {
	if u.id == "" {
		return
	}
	m := jsonstream.Message{ID: u.id, Status: status, Progress: &jsonstream.Progress{}}
	if done > 0 {
		m.Progress = &jsonstream.Progress{Current: done, Total: u.d.Size}
	}
	u.p.o.Progress(m)
}

// run brings the blob to the repository. Errors: as Push.
func (u *upload) run(ctx context.Context) error {
	c, s := u.p.c, u.p.s
	if !c.slots.TryAcquire(1) {
		u.say("Waiting", 0)
		if err := c.slots.Acquire(ctx, 1); err != nil {
			return context.Cause(ctx)
		}
	}
	defer c.slots.Release(1)
	there, err := s.has(ctx, s.blobPath(u.d))
	if err != nil {
		return err
	}
	if there {
		u.say("Layer already exists", 0)
		return nil
	}
	location, from, err := u.begin(ctx)
	if err != nil {
		return err
	}
	if from != "" {
		u.say("Mounted from "+from, 0)
		return nil
	}
	if u.d.Size <= c.Chunk {
		err = u.whole(ctx, location)
	} else {
		err = u.chunks(ctx, location)
	}
	if err == nil {
		u.say("Pushed", 0)
	}
	return err
}

// sources are the other repositories of the registry that are known to have the
// blob, those first of which it came or to which it was pushed.
func (u *upload) sources() []string {
	var sure, maybe []string
	for _, img := range u.p.c.Images.List() {
		found := digest.Digest(u.d.Digest) == img.ID
		for _, l := range img.Layers {
			found = found || l.Blob.Digest == u.d.Digest
		}
		if !found {
			continue
		}
		for _, n := range img.Digests {
			if n.Domain == u.p.ref.Domain && n.Path != u.p.ref.Path {
				sure = append(sure, n.Path)
			}
		}
		for _, n := range img.Names {
			if n.Domain == u.p.ref.Domain && n.Path != u.p.ref.Path {
				maybe = append(maybe, n.Path)
			}
		}
	}
	return append(sure, maybe...)
}

// begin starts an upload, or mounts the blob and says from where. One source is
// tried: a registry that does not mount has begun an upload instead.
func (u *upload) begin(ctx context.Context) (location *url.URL, from string, err error) {
	q := url.Values{}
	var scopes []string
	if all := u.sources(); len(all) > 0 {
		from = all[0]
		q.Set("mount", u.d.Digest.String())
		q.Set("from", from)
		scopes = []string{auth.ScopeRepository(from, auth.ActionPull)}
	}
	open := func() error {
		return u.p.c.retry(ctx, func() (bool, error) {
			resp, err := u.p.s.send(ctx, request{method: http.MethodPost, url: u.p.s.url("/"+u.p.s.repo+"/blobs/uploads/", q), scopes: scopes})
			if err != nil {
				return false, err
			}
			if resp.StatusCode != http.StatusCreated {
				from = ""
				location, err = u.location(resp)
			}
			return false, errors.Join(err, resp.Body.Close())
		})
	}
	err = open()
	if r, ok := errors.AsType[*refusal](err); ok && from != "" && !r.temporary() {
		// It may not be read from there.
		q, scopes, from = nil, nil, ""
		err = open()
	}
	return location, from, err
}

// location is where the upload goes on. A registry behind a proxy may think that
// it is spoken to without TLS: the credentials stay with the scheme that we chose.
func (u *upload) location(resp *http.Response) (*url.URL, error) {
	to, err := resp.Location()
	if err != nil {
		return nil, errdefs.Internalf("the registry does not say where to upload: %w", err)
	}
	if to.Host == u.p.s.e.base.Host {
		to.Scheme = u.p.s.e.base.Scheme
	}
	return to, nil
}

// finish is the location with the digest that ends an upload.
func (u *upload) finish(location *url.URL) *url.URL {
	to := *location
	q := to.Query()
	q.Set("digest", u.d.Digest.String())
	to.RawQuery = q.Encode()
	return &to
}

// whole sends the blob with one request.
func (u *upload) whole(ctx context.Context, location *url.URL) error {
	return u.p.c.retry(ctx, func() (bool, error) {
		resp, err := u.p.s.send(ctx, request{
			method: http.MethodPut, url: u.finish(location), header: http.Header{"Content-Type": {"application/octet-stream"}},
			body: u.part(0, u.d.Size), size: u.d.Size,
		})
		if r, ok := errors.AsType[*refusal](err); ok && r.code == "BLOB_UPLOAD_UNKNOWN" {
			// A cut has ended the upload: another begins.
			if to, _, berr := u.begin(ctx); berr == nil && to != nil {
				location = to
				return false, errdefs.Unavailablef("%w", err)
			}
		}
		if err != nil {
			return false, err
		}
		return false, errors.Join(u.stored(resp), resp.Body.Close())
	})
}

// chunks sends the blob piece by piece. After a failure the registry is asked
// how much it has, and the rest is sent.
func (u *upload) chunks(ctx context.Context, location *url.URL) error {
	offset := int64(0)
	ask := false
	err := u.p.c.retry(ctx, func() (bool, error) {
		before := offset
		if ask {
			var err error
			if location, offset, err = u.arrived(ctx, location); err != nil {
				return false, err
			}
		}
		ask = true
		for offset < u.d.Size {
			n := min(u.p.c.Chunk, u.d.Size-offset)
			resp, err := u.p.s.send(ctx, request{
				method: http.MethodPatch, url: location, body: u.part(offset, n), size: n,
				header: http.Header{"Content-Type": {"application/octet-stream"}, "Content-Range": {fmt.Sprintf("%d-%d", offset, offset+n-1)}},
			})
			if err != nil {
				return offset > before, err
			}
			next, err := u.location(resp)
			if err = errors.Join(err, resp.Body.Close()); err != nil {
				return offset > before, err
			}
			location, offset = next, offset+n
		}
		return true, nil
	})
	if err != nil {
		return err
	}
	return u.p.c.retry(ctx, func() (bool, error) {
		resp, err := u.p.s.send(ctx, request{method: http.MethodPut, url: u.finish(location)})
		if err != nil {
			return false, err
		}
		return false, errors.Join(u.stored(resp), resp.Body.Close())
	})
}

// arrived asks how much of an upload the registry has. One that has forgotten
// it gets another from the start.
func (u *upload) arrived(ctx context.Context, location *url.URL) (*url.URL, int64, error) {
	resp, err := u.p.s.send(ctx, request{method: http.MethodGet, url: location})
	if r, ok := errors.AsType[*refusal](err); ok && r.status == http.StatusNotFound {
		to, from, err := u.begin(ctx)
		if err == nil && from != "" {
			return location, u.d.Size, nil // it is there by now
		}
		return to, 0, err
	}
	if err != nil {
		return location, 0, err
	}
	if err := resp.Body.Close(); err != nil {
		return location, 0, err
	}
	if to, err := u.location(resp); err == nil {
		location = to
	}
	_, last, ok := strings.Cut(strings.TrimPrefix(resp.Header.Get("Range"), "bytes="), "-")
	n, err := strconv.ParseInt(last, 10, 64)
	switch {
	case !ok || err != nil || n < 0 || n >= u.d.Size:
		return location, 0, errdefs.Internalf("the registry does not say how much of %s has arrived", u.d.Digest)
	case n == 0: // "0-0" is both one byte and none
		to, _, err := u.begin(ctx)
		return to, 0, err
	}
	return location, n + 1, nil
}

// stored checks that the registry has taken the blob for what it is.
func (u *upload) stored(resp *http.Response) error {
	if said := resp.Header.Get("Docker-Content-Digest"); said != "" && said != u.d.Digest.String() {
		return errdefs.DataLossf("the registry stored %s as %s", u.d.Digest, said)
	}
	return nil
}

// part opens a piece of the blob; reading it is told to the client.
func (u *upload) part(from, n int64) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) {
		f, size, err := u.p.c.Images.Content().Reader(digest.Digest(u.d.Digest))
		if err != nil {
			return nil, err
		}
		if size != u.d.Size {
			return nil, errors.Join(errdefs.DataLossf("content %s: %d bytes, the manifest says %d", u.d.Digest, size, u.d.Size), f.Close())
		}
		return &piece{Reader: io.NewSectionReader(f, from, n), f: f, u: u, at: from, throttle: image.NewThrottle()}, nil
	}
}

// piece is a part of a blob that is being sent.
type piece struct {
	io.Reader
	f        *os.File
	u        *upload
	at       int64
	throttle *image.Throttle
}

func (p *piece) Read(b []byte) (int, error) {
	n, err := p.Reader.Read(b)
	p.at += int64(n)
	if n > 0 && p.throttle.Pass(p.at == p.u.d.Size) {
		p.u.say("Pushing", p.at)
	}
	return n, err
}

// Close ends reading.
func (p *piece) Close() error { return p.f.Close() }
