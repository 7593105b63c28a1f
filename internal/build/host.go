package build

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/moby/moby/api/types/jsonstream"

	"lade/internal/digest"
	"lade/internal/errdefs"
)

// Host is laded as lade-build sees it.
type Host struct {
	client http.Client
}

// NewHost returns the host at a socket. It connects when something is asked.
func NewHost(socket string) *Host {
	return &Host{http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
	}}}
}

// Image returns an image, which is held from then on. tell, unless nil, hears
// how a fetch goes on. Errors: NotFound, and those of a pull.
func (h *Host) Image(ctx context.Context, q ImageRequest, tell func(jsonstream.Message)) (*Image, error) {
	body, err := h.post(ctx, http.MethodPost, "/image", q)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	for d := json.NewDecoder(body); ; {
		var r Reply
		if err := d.Decode(&r); err != nil {
			return nil, errdefs.Unavailablef("the engine went away: %w", err)
		}
		switch {
		case r.Error != nil:
			return nil, r.Error.Err()
		case r.Image != nil:
			return r.Image, nil
		case r.Progress != nil && tell != nil:
			tell(*r.Progress)
		}
	}
}

// SetHeld says which blobs and layers the cache goes on using: all others that
// Image has answered are given up.
func (h *Host) SetHeld(ctx context.Context, held Held) error {
	body, err := h.post(ctx, http.MethodPut, "/held", held)
	if err != nil {
		return err
	}
	return body.Close()
}

// Load makes images of an OCI layout in a tar, without the blobs that laded has.
// Errors: those of ImageLoad.
func (h *Host) Load(ctx context.Context, archive io.Reader, held []digest.Digest) (*Loaded, error) {
	names := make([]string, len(held))
	for i, d := range held {
		names[i] = d.String()
	}
	body, err := h.do(ctx, http.MethodPost, "/images", archive, http.Header{HeldHeader: {strings.Join(names, ",")}})
	if err != nil {
		return nil, err
	}
	defer body.Close()
	l := new(Loaded)
	return l, json.NewDecoder(body).Decode(l)
}

// Connect returns a network namespace that is connected with the default bridge,
// under an id that the caller chooses.
func (h *Host) Connect(ctx context.Context, id string) (*Network, error) {
	body, err := h.do(ctx, http.MethodPost, "/networks/"+id, nil, nil)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	n := new(Network)
	return n, json.NewDecoder(body).Decode(n)
}

// Disconnect takes the namespace away. It is idempotent.
func (h *Host) Disconnect(ctx context.Context, id string) error {
	body, err := h.do(ctx, http.MethodDelete, "/networks/"+id, nil, nil)
	if err != nil {
		return err
	}
	return body.Close()
}

func (h *Host) post(ctx context.Context, method, path string, v any) (io.ReadCloser, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return h.do(ctx, method, path, bytes.NewReader(b), nil)
}

// do returns the body of an answer that is no error.
func (h *Host) do(ctx context.Context, method, path string, body io.Reader, header http.Header) (io.ReadCloser, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://laded"+path, body)
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		r.Header[k] = v
	}
	resp, err := h.client.Do(r)
	if err != nil {
		return nil, errdefs.Unavailablef("the engine does not answer: %w", err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	var f Failure
	if err := json.NewDecoder(resp.Body).Decode(&f); err != nil {
		return nil, fmt.Errorf("%s %s: %s", method, path, resp.Status)
	}
	return nil, f.Err()
}
