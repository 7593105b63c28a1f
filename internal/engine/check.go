package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/mount"

	"lade/internal/content"
	"lade/internal/digest"
	"lade/internal/engine/container"
	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/snapshot"
	"lade/internal/store"
	"lade/internal/supervisor/wire"
)

// CheckInput is what Check compares. No engine may run on it.
type CheckInput struct {
	Root      string // data root
	ExecRoot  string
	Store     *store.Store
	Content   *content.Store
	Images    *image.Images // only its records are used
	Snapshots []snapshot.Info
	Stray     []string // files of the storage driver that belong to no snapshot
	Deep      bool     // read every blob
}

// check collects what is wrong.
type check struct {
	CheckInput
	ctx        context.Context
	faults     []string
	containers map[string]*container.Record
	snapshots  map[string]snapshot.Info
}

func (c *check) fault(format string, a ...any) {
	c.faults = append(c.faults, fmt.Sprintf(format, a...))
}

// Check follows every reference between records, snapshots, directories,
// volumes, images, blobs, endpoints and what the supervisor left for the
// engine, in both directions. It returns what is wrong, a line each, sorted;
// after an orderly end nothing is. What a crash leaves is named, too: the next
// start clears it. Errors: of reading, and the context's.
func Check(ctx context.Context, in CheckInput) ([]string, error) {
	c := &check{CheckInput: in, ctx: ctx, containers: map[string]*container.Record{}, snapshots: map[string]snapshot.Info{}}
	for _, s := range in.Snapshots {
		c.snapshots[s.Key] = s
	}
	for _, s := range in.Stray {
		c.fault("%s: the files belong to no snapshot", s)
	}
	c.checkContainers()
	for _, walk := range []func() error{c.checkDirectories, c.checkVolumes, c.checkSecrets, c.checkImages, c.checkEndpoints, c.checkExits, c.checkGroups} {
		if err := walk(); err != nil {
			return nil, err
		}
	}
	slices.Sort(c.faults)
	return c.faults, nil
}

func (c *check) checkContainers() {
	names := map[string]string{}
	for id, raw := range c.Store.Walk(bucket) {
		r, err := container.Decode(raw)
		if err != nil || r.ID != id {
			c.fault("container %s: its record is damaged: %v", id, err)
			r = &container.Record{ID: id}
		}
		c.containers[id] = r
		if other := names[r.Name]; other != "" {
			c.fault("container %s: has the name %q of container %s", id, r.Name, other)
		}
		names[r.Name] = id
		s, ok := c.snapshots[id]
		switch {
		case !ok:
			c.fault("container %s: has no snapshot", id)
		case s.Kind != snapshot.Active:
			c.fault("container %s: its snapshot is read-only", id)
		}
		img, err := c.Images.Get(digest.Digest(r.ImageID)) // it may be gone, by force
		if err == nil && ok && s.Parent != image.SnapshotKey(img.Ground()) {
			c.fault("container %s: lies on %q, which is not its image's", id, s.Parent)
		}
	}
}

// names lists a directory; one that does not exist is empty.
func names(dir string) (out []string, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out, err
}

func (c *check) checkDirectories() error {
	dir := filepath.Join(c.Root, "containers")
	there, err := names(dir)
	if err != nil {
		return err
	}
	for _, name := range there {
		if c.containers[name] == nil {
			c.fault("%s: belongs to no container", filepath.Join(dir, name))
		}
	}
	for id := range c.containers {
		if !slices.Contains(there, id) {
			c.fault("container %s: has no directory", id)
		}
	}
	return nil
}

func (c *check) checkVolumes() error {
	dir := filepath.Join(c.Root, "volumes")
	there, err := names(dir)
	if err != nil {
		return err
	}
	volumes := map[string]bool{}
	for name := range c.Store.Walk("volumes") {
		volumes[name] = true
		if _, err := os.Stat(filepath.Join(dir, name, "_data")); err != nil {
			c.fault("volume %s: %v", name, err)
		}
	}
	for _, name := range there {
		if !volumes[name] {
			c.fault("%s: belongs to no volume", filepath.Join(dir, name))
		}
	}
	for id, r := range c.containers {
		for _, m := range r.Mounts {
			if m.Type == mount.TypeVolume && !volumes[m.Name] {
				c.fault("container %s: its volume %s does not exist", id, m.Name)
			}
		}
	}
	return nil
}

func (c *check) checkImages() error {
	blobs, chains := c.Images.Needed()
	for _, img := range c.Images.List() {
		sizes := map[digest.Digest]int64{digest.Digest(img.Manifest.Digest): img.Manifest.Size}
		for _, l := range img.Layers {
			sizes[digest.Digest(l.Blob.Digest)] = l.Blob.Size
		}
		for _, d := range img.Blobs() {
			size, err := c.Content.Stat(d)
			if want, known := sizes[d]; err != nil {
				c.fault("image %s: %v", img.ID, err)
			} else if known && size != want {
				c.fault("image %s: blob %s has %d bytes, not %d", img.ID, d, size, want)
			}
		}
		parent := ""
		for _, chain := range img.ChainIDs {
			key := image.SnapshotKey(chain)
			s, ok := c.snapshots[key]
			switch {
			case !ok:
				c.fault("image %s: the snapshot of its layer %s does not exist", img.ID, chain)
			case s.Kind != snapshot.Committed || s.Parent != parent:
				c.fault("image %s: the snapshot of its layer %s is not what it should be: %+v", img.ID, chain, s)
			}
			parent = key
		}
	}
	for info, err := range c.Content.Walk() {
		if err != nil {
			return err
		}
		if !blobs[info.Digest] {
			c.fault("blob %s: belongs to no image", info.Digest)
		}
		if c.Deep {
			err := c.Content.Verify(c.ctx, info.Digest)
			if errdefs.KindOf(err) == errdefs.DataLoss {
				c.fault("blob %s: %v", info.Digest, err)
			} else if err != nil {
				return err
			}
		}
	}
	children := map[string]bool{}
	for _, s := range c.Snapshots {
		children[s.Parent] = true
	}
	for _, s := range c.Snapshots {
		needed := children[s.Key] || chains[digest.ChainID("sha256:"+s.Key)]
		if s.Kind == snapshot.Active {
			needed = c.containers[s.Key] != nil
		}
		if !needed {
			c.fault("snapshot %s: belongs to nobody", s.Key)
		}
	}
	return nil
}

// checkEndpoints looks at what the containers have of the networks: nothing is
// had by two, and no network or container is missing.
func (c *check) checkEndpoints() error {
	networks := map[string]bool{}
	for name := range c.Store.Walk("network") {
		networks[name] = true
	}
	addresses, ports := map[string]string{}, map[string]string{}
	for id, raw := range c.Store.Walk("endpoint") {
		var all struct {
			Endpoints []struct {
				Network    string
				IPv4, IPv6 netip.Prefix
			}
			Published []struct {
				Proto    string
				HostIP   netip.Addr
				HostPort uint16
			}
		}
		if err := json.Unmarshal(raw, &all); err != nil {
			c.fault("endpoints of container %s: damaged: %v", id, err)
			continue
		}
		if r := c.containers[id]; r == nil || !r.State.Alive() {
			c.fault("endpoints of container %s: the container does not run", id)
		}
		for _, ep := range all.Endpoints {
			if !networks[ep.Network] {
				c.fault("endpoints of container %s: there is no network %s", id, ep.Network)
			}
			for _, p := range []netip.Prefix{ep.IPv4, ep.IPv6} {
				key := ep.Network + " " + p.Addr().String()
				if other := addresses[key]; other != "" && p.IsValid() {
					c.fault("endpoints of container %s: has the address %s of container %s", id, p.Addr(), other)
				}
				addresses[key] = id
			}
		}
		for _, p := range all.Published {
			key := fmt.Sprint(p.HostIP, " ", p.HostPort, "/", p.Proto)
			if other := ports[key]; other != "" {
				c.fault("endpoints of container %s: publishes %s as container %s does", id, key, other)
			}
			ports[key] = id
		}
	}
	return nil
}

// checkExits looks at the exits that the supervisor keeps for the engine.
func (c *check) checkExits() error {
	dir := filepath.Join(c.ExecRoot, "exits")
	there, err := names(dir)
	if err != nil {
		return err
	}
	for _, name := range there {
		if strings.HasPrefix(name, ".") {
			continue
		}
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		var x wire.Exited
		if err := json.Unmarshal(raw, &x); err != nil {
			c.fault("exit record %s: damaged: %v", name, err)
		} else if c.containers[x.ID] == nil {
			c.fault("exit record %s: there is no such container", name)
		}
	}
	return nil
}

// checkGroups looks at what the supervisor notes of control groups.
func (c *check) checkGroups() error {
	there, err := names(filepath.Join(c.ExecRoot, "groups"))
	if err != nil {
		return err
	}
	for _, id := range there {
		if r := c.containers[id]; r == nil || !r.State.Alive() {
			c.fault("control group of container %s: the container does not run", id)
		}
	}
	return nil
}
