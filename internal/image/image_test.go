package image_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"

	"lade/internal/digest"
	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/image/imagetest"
	"lade/internal/reference"
)

func ref(t testing.TB, s string) reference.Reference {
	t.Helper()
	r, err := reference.ParseTagged(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func refs(t testing.TB, list ...string) (out []reference.Reference) {
	t.Helper()
	for _, s := range list {
		out = append(out, ref(t, s))
	}
	return out
}

// build makes an image whose lower layer is common to all.
func build(t testing.TB, label string) *imagetest.Built {
	t.Helper()
	return imagetest.Build(t, imagetest.Spec{
		Labels: map[string]string{"n": label},
		Layers: [][]byte{
			imagetest.Tar(t, imagetest.File{Name: "base", Body: "base"}),
			imagetest.Tar(t, imagetest.File{Name: "own", Body: label}),
		},
	})
}

func nobody(digest.Digest) []image.User { return nil }

func by(running bool) image.Users {
	return func(digest.Digest) []image.User {
		return []image.User{{Container: strings.Repeat("c", 64), Running: running}}
	}
}

const some = "@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestResolve(t *testing.T) {
	s := imagetest.New(t)
	one := imagetest.Add(t, s, build(t, "1"), refs(t, "one", "host:5000/x/y:z", "one"+some)...)
	two := imagetest.Add(t, s, build(t, "2"), refs(t, "two:v", "deadbeef")...)
	for name, want := range map[string]digest.Digest{
		"one": one.ID, "one:latest": one.ID, "docker.io/library/one": one.ID, "host:5000/x/y:z": one.ID, "one" + some: one.ID,
		string(one.ID): one.ID, one.ID.Hex(): one.ID, one.ID.Short(): one.ID, "sha256:" + one.ID.Short(): one.ID,
		string(one.Manifest.Digest): one.ID, "two:v": two.ID, "deadbeef": two.ID, "one:tag" + some: one.ID,
	} {
		if img, err := s.Resolve(name); err != nil || img.ID != want {
			t.Errorf("Resolve(%q): %v, want %s", name, err, want)
		}
	}
	for name, want := range map[string]string{
		"none": "No such image: none:latest", "two": "No such image: two:latest",
		"sha256:" + strings.Repeat("0", 64):     "No such image: sha256:" + strings.Repeat("0", 64),
		strings.Repeat("0", 64):                 "No such image: sha256:" + strings.Repeat("0", 64),
		"one@sha256:" + strings.Repeat("1", 64): "No such image: one@sha256:" + strings.Repeat("1", 64),
	} {
		if _, err := s.Resolve(name); errdefs.KindOf(err) != errdefs.NotFound || err.Error() != want {
			t.Errorf("Resolve(%q): %v, want %q", name, err, want)
		}
	}
	if _, err := s.Resolve("Bad"); errdefs.KindOf(err) != errdefs.Invalid {
		t.Errorf("Resolve(Bad): %v", err)
	}
	// Two ids with a common first digit are ambiguous; among 17 there are some.
	for i := range 16 {
		imagetest.Add(t, s, build(t, fmt.Sprint("more", i)))
	}
	ambiguous := false
	for _, c := range "0123456789abcdef" {
		if _, err := s.Resolve(string(c)); errdefs.KindOf(err) == errdefs.Invalid {
			ambiguous = true
			if want := "multiple IDs found with provided prefix: " + string(c); err.Error() != want {
				t.Errorf("%v, want %s", err, want)
			}
		}
	}
	if !ambiguous {
		t.Error("no prefix is ambiguous")
	}
}

func TestTag(t *testing.T) {
	dir := t.TempDir()
	s, end := imagetest.Open(t, dir)
	one := imagetest.Add(t, s, build(t, "1"), refs(t, "one")...)
	two := imagetest.Add(t, s, build(t, "2"), refs(t, "two")...)
	if _, err := s.Tag(t.Context(), "one", ref(t, "x:1")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Tag(t.Context(), "two", ref(t, "one")); err != nil { // moves
		t.Fatal(err)
	}
	if _, err := s.Tag(t.Context(), "none", ref(t, "y")); errdefs.KindOf(err) != errdefs.NotFound || err.Error() != "No such image: none:latest" {
		t.Errorf("a tag for an image that is not there: %v", err)
	}
	if _, err := s.Tag(t.Context(), "one", ref(t, "y"+some)); errdefs.KindOf(err) != errdefs.Invalid {
		t.Errorf("a tag with a digest: %v", err)
	}
	check := func(s *image.Images) {
		t.Helper()
		for id, want := range map[digest.Digest]string{one.ID: "x:1", two.ID: "one:latest two:latest"} {
			img, err := s.Get(id)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, n := range img.Names {
				got = append(got, n.Familiar())
			}
			if strings.Join(got, " ") != want {
				t.Errorf("names %q, want %q", got, want)
			}
		}
	}
	check(s)
	end()
	s, end = imagetest.Open(t, dir) // a new engine knows the same
	defer end()
	check(s)
	img, err := s.Get(one.ID)
	if err != nil || img.Size != one.Size || img.Config.Config.Labels["n"] != "1" || img.Top() != one.Top() || img.Layers[0].Blob.Digest != one.Layers[0].Blob.Digest {
		t.Errorf("%+v, %v; want %+v", img, err, one)
	}
}

// text writes a removal as a client prints it, with ids replaced.
func text(removed []image.Removed) string {
	var out []string
	for _, r := range removed {
		switch {
		case r.Untagged != "":
			out = append(out, "-"+r.Untagged)
		case r.Image != "":
			out = append(out, "image")
		default:
			out = append(out, "layer")
		}
	}
	return strings.Join(out, " ")
}

func TestRemove(t *testing.T) {
	const in = "conflict: unable to "
	for name, tc := range map[string]struct {
		names []string
		rm    string // "" is the id
		force bool
		users image.Users
		want  string
		err   string // ID is replaced
	}{
		"last name":             {[]string{"a"}, "a", false, nobody, "-a:latest image layer layer", ""},
		"one of two":            {[]string{"a", "b"}, "a", false, nobody, "-a:latest", ""},
		"with digest":           {[]string{"a", "a" + some}, "a", false, nobody, "-a:latest -a" + some + " image layer layer", ""},
		"by digest":             {[]string{"a", "a" + some}, "a" + some, false, nobody, "-a" + some, ""},
		"two tags and digest":   {[]string{"a:1", "a:2", "a" + some}, "a:1", false, nobody, "-a:1", ""},
		"by id":                 {[]string{"a"}, "", false, nobody, "-a:latest image layer layer", ""},
		"by id, nameless":       {nil, "", false, nobody, "image layer layer", ""},
		"by id, two tags":       {[]string{"a", "b"}, "", false, nobody, "", in + "delete ID (must be forced) - image is referenced in multiple repositories"},
		"by id, two, forced":    {[]string{"a", "b"}, "", true, nobody, "-a:latest -b:latest image layer layer", ""},
		"name, stopped":         {[]string{"a"}, "a", false, by(false), "", in + `remove repository reference "a" (must force) - container cccccccccccc is using its referenced image ID`},
		"name, stopped, forced": {[]string{"a"}, "a", true, by(false), "-a:latest image layer layer", ""},
		"one of two, running":   {[]string{"a", "b"}, "a", false, by(true), "-a:latest", ""},
		"id, stopped":           {[]string{"a"}, "", false, by(false), "", in + "delete ID (must be forced) - image is being used by stopped container cccccccccccc"},
		"id, running":           {[]string{"a"}, "", false, by(true), "", in + "delete ID (cannot be forced) - image is being used by running container cccccccccccc"},
		"id, running, forced":   {[]string{"a"}, "", true, by(true), "", in + "delete ID (cannot be forced) - image is being used by running container cccccccccccc"},
	} {
		t.Run(name, func(t *testing.T) {
			s := imagetest.New(t)
			img := imagetest.Add(t, s, build(t, "1"), refs(t, tc.names...)...)
			rm := tc.rm
			if rm == "" {
				rm = img.ID.Short()
			}
			removed, err := s.Remove(t.Context(), rm, image.RemoveOptions{Force: tc.force}, tc.users)
			if tc.err != "" {
				if want := strings.ReplaceAll(tc.err, "ID", img.ID.Short()); errdefs.KindOf(err) != errdefs.Conflict || err.Error() != want {
					t.Errorf("%v, want %s", err, want)
				}
				if _, err := s.Get(img.ID); err != nil {
					t.Error("it is gone all the same")
				}
				return
			}
			if err != nil || text(removed) != tc.want {
				t.Errorf("%q, %v; want %q", text(removed), err, tc.want)
			}
			if strings.Contains(tc.want, "image") {
				imagetest.Empty(t, s)
			}
		})
	}
}

func TestRemoveUnderContainer(t *testing.T) {
	s := imagetest.New(t)
	img := imagetest.Add(t, s, build(t, "1"), refs(t, "a")...)
	if _, err := s.Snapshotter().Prepare(t.Context(), "container", img.Top()); err != nil {
		t.Fatal(err)
	}
	removed, err := s.Remove(t.Context(), "a", image.RemoveOptions{Force: true}, by(false))
	if err != nil || text(removed) != "-a:latest image" {
		t.Errorf("forced removal of a name: %q, %v", text(removed), err)
	}
	if _, snaps, _ := imagetest.Objects(t, s); snaps != 3 {
		t.Errorf("%d snapshots: the container lost its layers", snaps)
	}
	// Not while the container is known, but once it is an orphan.
	if _, err := s.Collect(t.Context(), func(string) bool { return false }); err != nil {
		t.Fatal(err)
	}
	if _, snaps, _ := imagetest.Objects(t, s); snaps != 3 {
		t.Errorf("%d snapshots", snaps)
	}
	if _, err := s.Collect(t.Context(), func(key string) bool { return key == "container" }); err != nil {
		t.Fatal(err)
	}
	imagetest.Empty(t, s)
}

func TestPrune(t *testing.T) {
	s := imagetest.New(t)
	imagetest.Add(t, s, build(t, "1"), refs(t, "named")...)
	imagetest.Add(t, s, build(t, "2"))
	used := imagetest.Add(t, s, build(t, "3"))
	users := func(id digest.Digest) []image.User {
		if id == used.ID {
			return []image.User{{Container: "c"}}
		}
		return nil
	}
	removed, freed, err := s.Prune(t.Context(), true, nil, users)
	if err != nil || text(removed) != "image layer" || freed <= 0 {
		t.Errorf("a prune of what has no name: %q, %d, %v", text(removed), freed, err)
	}
	removed, _, err = s.Prune(t.Context(), false, func(i *image.Image) bool { return i.Config.Config.Labels["n"] != "1" }, users)
	if err != nil || len(removed) != 0 {
		t.Errorf("a prune of what the filter leaves out: %q, %v", text(removed), err)
	}
	removed, _, err = s.Prune(t.Context(), false, nil, users)
	if err != nil || text(removed) != "-named:latest image layer" {
		t.Errorf("a prune of all: %q, %v", text(removed), err)
	}
	if len(s.List()) != 1 {
		t.Error("the used image is gone")
	}
}

// TestCollect makes the rubbish that crashes leave, and what must stay.
func TestCollect(t *testing.T) {
	dir := t.TempDir()
	s, end := imagetest.Open(t, dir)
	keep := imagetest.Add(t, s, build(t, "keep"), refs(t, "keep")...)
	// A blob that nobody refers to, a half unpacked layer, a layer without image.
	if _, err := s.Content().WriteBlob(t.Context(), []byte("orphan")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Snapshotter().Prepare(t.Context(), "unpack-crashed", keep.Top()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Snapshotter().Prepare(t.Context(), "x", ""); err != nil {
		t.Fatal(err)
	}
	if err := s.Snapshotter().Commit(t.Context(), strings.Repeat("a", 64), "x"); err != nil {
		t.Fatal(err)
	}
	// What a pull had when the engine died is kept.
	lease := s.Lease()
	held := []byte("held")
	if err := lease.Hold(digest.FromBytes(held)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Content().WriteBlob(t.Context(), held); err != nil {
		t.Fatal(err)
	}
	end()
	s, end = imagetest.Open(t, dir)
	defer end()
	freed, err := s.Collect(t.Context(), nil)
	if err != nil || len(freed.Blobs) != 1 || len(freed.Chains) != 1 {
		t.Errorf("a collection freed %+v, %v", freed, err)
	}
	if blobs, snaps, _ := imagetest.Objects(t, s); blobs != 5 || snaps != 2 {
		t.Errorf("%d blobs, %d snapshots", blobs, snaps)
	}
}

func TestAddRefuses(t *testing.T) {
	s := imagetest.New(t)
	b := build(t, "1")
	add := func(layers []image.Layer) error {
		_, err := s.Add(t.Context(), image.Addition{Manifest: b.Desc, Layers: layers})
		return err
	}
	if err := add(nil); errdefs.KindOf(err) != errdefs.NotFound {
		t.Errorf("without blobs: %v", err)
	}
	lease := s.Lease()
	for _, body := range [][]byte{b.Manifest, b.Config} {
		if err := lease.Hold(digest.FromBytes(body)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Content().WriteBlob(t.Context(), body); err != nil {
			t.Fatal(err)
		}
	}
	if err := add(nil); errdefs.KindOf(err) != errdefs.Invalid {
		t.Errorf("without layers: %v", err)
	}
	if err := add(make([]image.Layer, 2)); errdefs.KindOf(err) != errdefs.NotFound {
		t.Errorf("without snapshots: %v", err)
	}
	if err := lease.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	imagetest.Empty(t, s)
}

// TestConcurrent adds, tags, removes and collects at once; whatever is listed
// at the end is whole, and nothing else is there.
func TestConcurrent(t *testing.T) {
	s := imagetest.New(t)
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			for j := range 4 {
				name := fmt.Sprint("img", (i+j)%4)
				imagetest.Add(t, s, build(t, name), refs(t, name)...)
				if j%2 == 1 {
					if _, err := s.Remove(context.Background(), name, image.RemoveOptions{Force: true}, nobody); err != nil && errdefs.KindOf(err) != errdefs.NotFound {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Go(func() {
		for range 10 {
			if _, err := s.Collect(context.Background(), nil); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	for _, img := range s.List() {
		for _, d := range img.Blobs() {
			if err := s.Content().Verify(t.Context(), d); err != nil {
				t.Error(err)
			}
		}
		if _, err := s.Snapshotter().Stat(t.Context(), img.Top()); err != nil {
			t.Error(err)
		}
		if _, err := s.Remove(t.Context(), string(img.ID), image.RemoveOptions{Force: true}, nobody); err != nil {
			t.Error(err)
		}
	}
	imagetest.Empty(t, s)
}

func TestHistory(t *testing.T) {
	s := imagetest.New(t)
	img := imagetest.Add(t, s, build(t, "own"), refs(t, "a:1", "a:2")...)
	h := img.History()
	if len(h) != 3 || h[0].ID != string(img.ID) || h[0].CreatedBy != "CMD" || h[0].Size != 0 || !slices.Equal(h[0].Tags, []string{"a:1", "a:2"}) ||
		h[1].ID != "<missing>" || h[1].Size != 3 || h[2].Size != 4 {
		t.Errorf("the history is %+v", h)
	}
}

func TestChange(t *testing.T) {
	var c dockerspec.DockerOCIImageConfig
	c.Env = []string{"A=0", "B=2"}
	old := slices.Clone(c.Env)
	err := image.Change(&c, []string{
		`CMD ["a", "b"]`, "entrypoint echo hi", `ENV A=1 C="x y" D='q'`, "ENV OLD form of it", "EXPOSE 80 53/udp 1-3", "LABEL a=b c.d=\"e f\"",
		"USER 1:2", `VOLUME ["/v", "/w"]`, "WORKDIR /x", "WORKDIR y", "STOPSIGNAL SIGQUIT", "ONBUILD RUN x",
		"HEALTHCHECK --interval=5s --retries=3 CMD curl localhost",
	})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(c.Cmd, []string{"a", "b"}) || !slices.Equal(c.Entrypoint, []string{"/bin/sh", "-c", "echo hi"}) ||
		!slices.Equal(c.Env, []string{"A=1", "B=2", "C=x y", "D=q", "OLD=form of it"}) || len(c.ExposedPorts) != 3 || c.Labels["c.d"] != "e f" ||
		c.User != "1:2" || len(c.Volumes) != 2 || c.WorkingDir != "/x/y" || c.StopSignal != "SIGQUIT" || c.OnBuild[0] != "RUN x" ||
		c.Healthcheck.Retries != 3 || c.Healthcheck.Test[0] != "CMD-SHELL" {
		t.Errorf("the configuration after all changes: %+v %+v", c, c.Healthcheck)
	}
	if old[0] != "A=0" {
		t.Error("the old environment was changed")
	}
	for in, want := range map[string]string{
		"RUN x": "run is not a valid change command", "CMD": "CMD requires at least one argument", "ENV A": "ENV must have two arguments",
		"EXPOSE x": "invalid containerPort: x", "EXPOSE 80/icmp": "invalid proto: icmp", "HEALTHCHECK maybe": `Unknown type "maybe" in HEALTHCHECK (try CMD)`,
		"LABEL a=\"b": "LABEL: unexpected end of statement while looking for matching \"",
	} {
		if err := image.Change(&c, []string{in}); errdefs.KindOf(err) != errdefs.Invalid || err.Error() != want {
			t.Errorf("%q: %v, want %q", in, err, want)
		}
	}
}

func FuzzChange(f *testing.F) {
	for _, s := range []string{`CMD ["a"]`, "ENV a=b c='d", "EXPOSE 1-", "HEALTHCHECK --interval=", "LABEL \\", "VOLUME []", "ENV ="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var c dockerspec.DockerOCIImageConfig
		if err := image.Change(&c, []string{s}); err != nil && errdefs.KindOf(err) != errdefs.Invalid {
			t.Errorf("%q: %v", s, err)
		}
	})
}

// TestLasting: what a lasting lease holds outlives a restart and a sweep, until it
// is told to hold something else.
func TestLasting(t *testing.T) {
	dir := t.TempDir()
	s, end := imagetest.Open(t, dir)
	img := imagetest.Add(t, s, build(t, "held"), ref(t, "held"))
	l := s.Lasting("mine")
	if err := errors.Join(l.Hold(img.Blobs()...), l.HoldChains(img.ChainIDs...)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Remove(t.Context(), "held", image.RemoveOptions{}, nobody); err != nil {
		t.Fatal(err)
	}
	end()
	s, end = imagetest.Open(t, dir)
	defer end()
	l = s.Lasting("mine")
	if _, err := s.Collect(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if blobs, chains, _ := imagetest.Objects(t, s); blobs != len(img.Blobs()) || chains != len(img.ChainIDs) {
		t.Errorf("held: %d blobs, %d snapshots", blobs, chains)
	}
	if err := l.Set(t.Context(), nil, img.ChainIDs[:1]); err != nil {
		t.Fatal(err)
	}
	if blobs, chains, _ := imagetest.Objects(t, s); blobs != 0 || chains != 1 {
		t.Errorf("after Set: %d blobs, %d snapshots", blobs, chains)
	}
	if err := l.Set(t.Context(), nil, nil); err != nil {
		t.Fatal(err)
	}
	imagetest.Empty(t, s)
}
