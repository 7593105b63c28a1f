package disk

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/build"
	apicontainer "github.com/moby/moby/api/types/container"

	"lade/internal/digest"
	"lade/internal/engine/container"
	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/image/imagetest"
	"lade/internal/need"
	"lade/internal/reference"
)

// TestCollect fills a disk and looks at what goes: by last use, not more than
// needed, nothing that is used, protected or fresh.
func TestCollect(t *testing.T) {
	need.Root(t)
	images := imagetest.New(t)
	for _, name := range []string{"old", "used", "kept", "middle", "young"} {
		ref, err := reference.Parse(name)
		if err != nil {
			t.Fatal(err)
		}
		labels := map[string]string{}
		if name == "kept" {
			labels["keep"] = "yes"
		}
		spec := imagetest.Spec{Layers: [][]byte{imagetest.Tar(t, imagetest.File{Name: name, Body: strings.Repeat(name, 3000)})}, Labels: labels}
		imagetest.Add(t, images, imagetest.Build(t, spec), ref)
	}
	id := func(name string) digest.Digest {
		img, err := images.Resolve(name)
		if err != nil {
			t.Fatal(err)
		}
		return img.ID
	}
	images.Use(id("middle"))
	images.Use(id("young"))
	used := id("used")
	var users []image.User
	p := Policy{High: 90, Low: 50, Protect: []string{"keep=yes"}}
	disk := uint64(95)
	var told []map[string]string
	c := New(Config{
		Policy: func() Policy { return p }, Containers: func() []*container.Actor { return nil }, Images: images,
		Users: func(d digest.Digest) []image.User {
			if d == used {
				return users
			}
			return nil
		},
		Removed: func([]image.Removed) {}, Publish: func(a map[string]string) { told = append(told, a) },
		Logger: slog.New(slog.DiscardHandler),
		Statfs: func(string) (uint64, uint64, error) { return disk << 20, 100 << 20, nil },
	})
	users = []image.User{{Container: "c"}}
	names := func(r Report) string {
		var out []string
		for _, i := range r.Items {
			out = append(out, i.Name)
		}
		return strings.Join(out, " ")
	}
	left := func() int { return len(images.List()) }

	r, err := c.DiskReclaim(t.Context(), true)
	if err != nil || names(r) != "old:latest middle:latest young:latest" || !r.Short || r.Reclaimed == 0 || left() != 5 {
		t.Fatalf("dry run: %+v, %v, %d left", r, err, left())
	}
	disk = 89
	if err := c.look(t.Context()); err != nil || left() != 5 {
		t.Errorf("below the mark: %v, %d left", err, left())
	}
	// A little too much: one image is enough.
	disk = 50
	one := int64(0)
	for _, i := range r.Items[:1] {
		one = i.Size
	}
	c.c.Statfs = func(string) (uint64, uint64, error) { return 50<<20 + uint64(one) - 1, 100 << 20, nil }
	if r, err = c.DiskReclaim(t.Context(), false); err != nil || names(r) != "old:latest" || r.Short || left() != 4 {
		t.Errorf("one: %+v, %v, %d left", r, err, left())
	}
	c.c.Statfs = func(string) (uint64, uint64, error) { return 95 << 20, 100 << 20, nil }
	p.KeepWithin = time.Hour
	if r, err = c.DiskReclaim(t.Context(), false); err != nil || len(r.Items) != 0 {
		t.Errorf("fresh: %+v, %v", r, err)
	}
	p.KeepWithin, p.DryRun, told = 0, true, nil
	for range 2 { // told once
		if err := c.look(t.Context()); err != nil || left() != 4 {
			t.Errorf("%v, %d left", err, left())
		}
	}
	if len(told) != 1 || told[0]["dryRun"] != "true" || told[0]["images"] != "2" {
		t.Errorf("told: %v", told)
	}
	p.DryRun = false
	if err := c.look(t.Context()); err != nil || left() != 2 {
		t.Errorf("above the mark: %v, %d left", err, left())
	}
	users = nil
	if r, err = c.DiskReclaim(t.Context(), false); err != nil || names(r) != "used:latest" {
		t.Errorf("not used any more: %+v, %v", r, err)
	}
	p = Policy{}
	if _, err = c.DiskReclaim(t.Context(), false); errdefs.KindOf(err) != errdefs.Invalid || p.String() != "off" {
		t.Errorf("without a policy: %v", err)
	}
}

// TestCollectBuildCache: records go by last use, no earlier than what was made on
// them, and not while they are in use.
func TestCollectBuildCache(t *testing.T) {
	need.Root(t)
	at := func(hours int) *time.Time {
		t := time.Now().Add(-time.Duration(hours) * time.Hour)
		return &t
	}
	all := []build.CacheRecord{
		{ID: "base", Size: 10, LastUsedAt: at(5)}, {ID: "step", Parents: []string{"base"}, Size: 10, LastUsedAt: at(4)},
		{ID: "lone", Size: 10, LastUsedAt: at(3)}, {ID: "now", Size: 10, LastUsedAt: at(6), InUse: true},
	}
	var removed []string
	c := New(Config{
		Policy: func() Policy { return Policy{High: 90, Low: 50} }, Containers: func() []*container.Actor { return nil }, Images: imagetest.New(t),
		Publish: func(map[string]string) {}, Logger: slog.New(slog.DiscardHandler),
		Statfs:     func(string) (uint64, uint64, error) { return 70, 100, nil },
		BuildUsage: func(context.Context) ([]build.CacheRecord, error) { return all, nil },
		BuildRemove: func(_ context.Context, id string) (int64, error) {
			removed = append(removed, id)
			return 10, nil
		},
	})
	if r, err := c.DiskReclaim(t.Context(), false); err != nil || r.Short || strings.Join(removed, " ") != "step base" {
		t.Errorf("%+v, %v, removed %v", r, err, removed)
	}
}

// TestRemovable: what is to run again, or runs, stays.
func TestRemovable(t *testing.T) {
	var got []string
	for _, s := range []container.State{container.Created, container.Running, container.Paused, container.Restarting, container.Exited, container.Dead} {
		for _, policy := range []string{"no", "always"} {
			for _, stopped := range []bool{false, true} {
				r := &container.Record{State: s, Stopped: stopped, HostConfig: hostConfig(policy)}
				if removable(r) {
					got = append(got, s.String()+" "+policy+map[bool]string{true: " stopped"}[stopped])
				}
			}
		}
	}
	want := []string{"created no", "created no stopped", "created always", "created always stopped", "exited no", "exited no stopped", "exited always stopped",
		"dead no", "dead no stopped", "dead always", "dead always stopped"}
	if !slices.Equal(got, want) {
		t.Errorf("which containers may go: %q", got)
	}
}

func hostConfig(restart string) *apicontainer.HostConfig {
	return &apicontainer.HostConfig{RestartPolicy: apicontainer.RestartPolicy{Name: apicontainer.RestartPolicyMode(restart)}}
}
