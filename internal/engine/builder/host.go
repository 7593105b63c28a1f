package builder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/jsonstream"
	"golang.org/x/sys/unix"

	"lade/internal/build"
	"lade/internal/digest"
	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/image/archive"
	"lade/internal/network"
	"lade/internal/oci"
	"lade/internal/reference"
)

// host answers lade-build.
type host struct {
	*Builder
	path   string
	server http.Server
	done   chan struct{}

	nets sync.Mutex // guards the others, and is held while a network is made
	// serving is the process that is answered, 0 for none: what one that has ended
	// had asked for, and is read only now, would be nobody's to give back.
	serving int
	// networks are the namespaces of steps that run, by endpoint.
	networks map[string]*os.File
}

func newHost(b *Builder) (*host, error) {
	h := &host{Builder: b, path: filepath.Join(b.c.Run, "host.sock"), done: make(chan struct{}), networks: map[string]*os.File{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /image", h.image)
	mux.HandleFunc("PUT /held", answer(h.held))
	mux.HandleFunc("POST /images", answer(h.load))
	mux.HandleFunc("POST /networks/{id}", answer(h.connect))
	mux.HandleFunc("DELETE /networks/{id}", answer(h.disconnect))
	h.server.Handler = mux
	h.server.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, peer{}, processOf(c))
	}
	l, err := listen(h.path)
	if err != nil {
		return nil, err
	}
	go func() {
		defer close(h.done)
		h.serve(l)
	}()
	return h, nil
}

// peer is the key of the process that is at the other end of a request's
// connection.
type peer struct{}

// processOf returns which process has made a connection, 0 if that is not known.
//
// Source: SO_PEERCRED in unix(7).
func processOf(c net.Conn) (pid int) {
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) { // fails for a closed one
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			pid = int(cred.Pid)
		}
	})
	return pid
}

// answerTo says which process is answered from now on.
func (h *host) answerTo(pid int) {
	h.nets.Lock()
	defer h.nets.Unlock()
	h.serving = pid
}

func (h *host) serve(l net.Listener) {
	if err := h.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		h.c.Logger.Error("the builder cannot ask the engine", "error", err)
	}
}

func (h *host) close() error {
	err := h.server.Close()
	<-h.done
	return err
}

// answer makes a handler of a function that returns what is to be said.
func answer(f func(r *http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v, err := f(r)
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			v = build.FailureOf(err)
		}
		_ = json.NewEncoder(w).Encode(v) // a lade-build that is gone hears nothing
	}
}

// image answers with an image, and tells before how its fetch goes on.
func (h *host) image(w http.ResponseWriter, r *http.Request) {
	e, c := json.NewEncoder(w), http.NewResponseController(w)
	say := func(reply build.Reply) {
		if e.Encode(reply) == nil {
			_ = c.Flush() // as above
		}
	}
	var q build.ImageRequest
	err := json.NewDecoder(r.Body).Decode(&q)
	var img *build.Image
	if err == nil {
		img, err = h.find(r.Context(), q, func(m jsonstream.Message) { say(build.Reply{Progress: &m}) })
	}
	if err != nil {
		say(build.Reply{Error: build.FailureOf(err)})
		return
	}
	say(build.Reply{Image: img})
}

func (h *host) find(ctx context.Context, q build.ImageRequest, tell func(jsonstream.Message)) (*build.Image, error) {
	ref, err := reference.Parse(q.Reference)
	if err != nil {
		return nil, err
	}
	ref = ref.WithDefaultTag()
	name := ref.Familiar()
	if q.Fetch {
		q.Reference = name
		if err := h.c.Pull(ctx, q, tell); err != nil {
			return nil, err
		}
	}
	platform := oci.Host()
	if q.Platform != nil {
		platform = *q.Platform
	}
	img, err := h.c.Images.ResolveFor(name, &platform)
	if err != nil && ref.Digest != "" {
		// One that was loaded or built here has no name with a digest.
		all := h.c.Images.List()
		if i := slices.IndexFunc(all, func(i *image.Image) bool { return digest.Digest(i.Manifest.Digest) == ref.Digest }); i >= 0 {
			img, err = all[i], nil
		}
	}
	if errdefs.KindOf(err) == errdefs.NotFound && !q.Fetch {
		// A Dockerfile may name an image by its id, which looks like a name.
		if id, tagged := strings.CutSuffix(name, ":latest"); tagged {
			if other, e := h.c.Images.ResolveFor(id, &platform); e == nil && strings.HasPrefix(other.ID.Hex(), id) {
				img, err = other, nil
			}
		}
	}
	if err != nil {
		return nil, err
	}
	h.c.Images.Use(img.ID)
	return h.describe(ctx, img)
}

// describe holds an image and says what it consists of.
func (h *host) describe(ctx context.Context, img *image.Image) (*build.Image, error) {
	if err := errors.Join(h.lease.Hold(img.Blobs()...), h.lease.HoldChains(img.ChainIDs...)); err != nil {
		return nil, err
	}
	m, err := h.c.Images.ReadBlob(digest.Digest(img.Manifest.Digest), oci.MaxManifest)
	if err != nil {
		return nil, err
	}
	manifest, err := oci.ParseManifest(m)
	if err != nil {
		return nil, err
	}
	config, err := h.c.Images.ReadBlob(digest.Digest(manifest.Config.Digest), oci.MaxConfig)
	if err != nil {
		return nil, err
	}
	out := &build.Image{ID: img.ID, Manifest: img.Manifest, Config: config}
	for i, l := range img.Layers {
		dir, err := h.c.Snapshots.Dir(ctx, image.SnapshotKey(img.ChainIDs[i]))
		if err != nil {
			return nil, err
		}
		out.Layers = append(out.Layers, build.Layer{Blob: l.Blob, DiffID: l.DiffID, Chain: img.ChainIDs[i], Dir: dir})
	}
	return out, nil
}

// held gives up what the cache does not use any more.
func (h *host) held(r *http.Request) (any, error) {
	var held build.Held
	if err := json.NewDecoder(r.Body).Decode(&held); err != nil {
		return nil, err
	}
	return struct{}{}, h.lease.Set(r.Context(), held.Blobs, held.Chains)
}

// load adds what was built.
func (h *host) load(r *http.Request) (any, error) {
	o := archive.LoadOptions{}
	var loaded build.Loaded
	for s := range strings.SplitSeq(r.Header.Get(build.HeldHeader), ",") {
		if s == "" {
			continue
		}
		d, err := digest.Parse(s)
		if err != nil {
			return nil, err
		}
		o.Held = append(o.Held, d)
	}
	o.Added = func(img *image.Image) {
		loaded.IDs = append(loaded.IDs, img.ID)
		h.c.Publish(events.ActionLoad, img.ID.String(), img.ID.String())
	}
	return &loaded, archive.Load(r.Context(), h.c.Images, r.Body, o)
}

// connect makes a namespace for a step.
func (h *host) connect(r *http.Request) (any, error) {
	id := r.PathValue("id")
	h.nets.Lock()
	defer h.nets.Unlock()
	if pid, _ := r.Context().Value(peer{}).(int); pid == 0 || pid != h.serving {
		return nil, errdefs.Unavailablef("the builder that asks for a network has ended")
	}
	ep, err := h.c.Networks.Connect(r.Context(), network.Request{ContainerID: id, Name: id, Network: "bridge"})
	if err != nil {
		return nil, err
	}
	h.networks[id] = ep.NetNS
	// The path leads to our descriptor: lade-build opens it before it gives the
	// namespace back.
	return build.Network{Path: fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), ep.NetNS.Fd())}, nil
}

func (h *host) disconnect(r *http.Request) (any, error) {
	h.nets.Lock()
	defer h.nets.Unlock()
	return struct{}{}, h.release(r.Context(), r.PathValue("id"))
}

// release takes a namespace away. The caller holds nets.
func (h *host) release(ctx context.Context, id string) error {
	ns, ok := h.networks[id]
	if !ok {
		return nil
	}
	delete(h.networks, id)
	return errors.Join(h.c.Networks.Release(ctx, id), ns.Close())
}

// disconnectAll takes all of them away, from a process that has ended.
func (h *host) disconnectAll(ctx context.Context) error {
	h.nets.Lock()
	defer h.nets.Unlock()
	h.serving = 0
	var errs []error
	for id := range h.networks {
		errs = append(errs, h.release(ctx, id))
	}
	return errors.Join(errs...)
}
