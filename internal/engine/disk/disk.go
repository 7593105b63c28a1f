package disk

import (
	"context"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/build"
	"golang.org/x/sys/unix"

	"lade/internal/digest"
	"lade/internal/engine/container"
	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/linux/sys"
)

// interval is how often the disk is looked at.
const interval = 30 * time.Second

// The kinds of candidates.
const (
	Container  = "container"
	Image      = "image"
	BuildCache = "build cache"
)

// Candidate is an object that may go.
type Candidate struct {
	Kind     string
	ID       string
	Name     string // "" for an image without one
	LastUsed time.Time
	Size     int64 // bytes that its removal frees, if nothing before it did

	// below are the records of the build cache that were made on top of this one.
	below []string
}

// Report is what a collection found and did.
type Report struct {
	Policy string  // in words
	Used   float64 // percent of the file system, before
	DryRun bool
	// Items are what was removed, or would be, in this order.
	Items     []Candidate
	Reclaimed int64 // bytes, or what a dry run expects
	// Short says that the low water mark is out of reach: everything else is in
	// use or protected.
	Short bool `json:",omitempty"`
}

// Config is what a collector is made of.
type Config struct {
	Root   string // data root
	Policy func() Policy
	// Containers returns them all.
	Containers func() []*container.Actor
	// Size returns the bytes of a container's own files.
	Size   func(ctx context.Context, r *container.Record) (int64, error)
	Images *image.Images
	Users  func(id digest.Digest) []image.User
	// BuildUsage returns what the build cache consists of; nil: there is none.
	BuildUsage func(ctx context.Context) ([]build.CacheRecord, error)
	// BuildRemove removes a record of it, and returns how many bytes that freed.
	BuildRemove func(ctx context.Context, id string) (int64, error)
	// Removed tells the event log of removed images.
	Removed func([]image.Removed)
	// Publish tells it of a collection.
	Publish func(attributes map[string]string)
	Logger  *slog.Logger
	// Statfs is statfs(2) in bytes, unless a test knows better.
	Statfs func(path string) (used, total uint64, err error)
}

// Collector removes what was not used for longest.
type Collector struct {
	c    Config
	busy sync.Mutex // held during a collection
	told string     // guarded by busy: what the last dry run found
}

// New returns a collector. Run makes it work by itself.
func New(c Config) *Collector {
	if c.Statfs == nil {
		c.Statfs = statfs
	}
	if c.BuildUsage == nil {
		c.BuildUsage = func(context.Context) ([]build.CacheRecord, error) { return nil, nil }
	}
	return &Collector{c: c}
}

func statfs(path string) (used, total uint64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return 0, 0, sys.Error("statfs", path, err)
	}
	// What is reserved for root is nobody's: df(1) counts the same way.
	size := uint64(st.Bsize)
	used = (st.Blocks - st.Bfree) * size
	return used, used + st.Bavail*size, nil
}

// Run looks at the disk now and then, until ctx ends.
func (c *Collector) Run(ctx context.Context) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := c.look(ctx); err != nil && ctx.Err() == nil {
			c.c.Logger.Warn("the disk could not be cleared", "error", err)
		}
	}
}

// look collects if the high water mark is passed.
func (c *Collector) look(ctx context.Context) error {
	if err := c.c.Images.SaveUses(); err != nil {
		return err
	}
	p := c.c.Policy()
	if !p.On() {
		return nil
	}
	used, total, err := c.c.Statfs(c.c.Root)
	if err != nil || percent(used, total) < float64(p.High) {
		return err
	}
	_, err = c.collect(ctx, p, p.DryRun)
	return err
}

func percent(used, total uint64) float64 {
	if total == 0 {
		return 0
	}
	return float64(used) * 100 / float64(total)
}

// DiskReclaim collects down to the low water mark, whether or not the high one
// is passed; with dryRun, or where the policy says so, it only tells what it
// would remove. Errors: Invalid without a policy.
func (c *Collector) DiskReclaim(ctx context.Context, dryRun bool) (Report, error) {
	p := c.c.Policy()
	if !p.On() {
		return Report{}, errdefs.Invalidf("there is no policy for the disk: daemon.json says nothing of it (disk)")
	}
	return c.collect(ctx, p, dryRun || p.DryRun)
}

func (c *Collector) collect(ctx context.Context, p Policy, dryRun bool) (Report, error) {
	c.busy.Lock()
	defer c.busy.Unlock()
	used, total, err := c.c.Statfs(c.c.Root)
	if err != nil {
		return Report{}, err
	}
	report := Report{Policy: p.String(), Used: percent(used, total), DryRun: dryRun, Items: []Candidate{}}
	excess := int64(used) - int64(float64(total)/100*float64(p.Low))
	all, err := c.candidates(ctx, p)
	if err != nil {
		return report, err
	}
	gone := map[string]bool{}
	for i := 0; i < len(all) && report.Reclaimed < excess; i++ {
		if err := context.Cause(ctx); err != nil {
			return report, err
		}
		item := all[i]
		if gone[item.ID] || !c.free(item, gone) {
			continue
		}
		if !dryRun {
			if item.Size, err = c.remove(ctx, item); err != nil {
				c.c.Logger.Info("not removed for space", item.Kind, item.ID, "error", err)
				continue
			}
		}
		gone[item.ID] = true
		report.Items = append(report.Items, item)
		report.Reclaimed += item.Size
		i = -1 // an image that was in the way of others may go now, the oldest first
	}
	report.Short = report.Reclaimed < excess
	c.tell(report, p)
	return report, nil
}

// free reports whether nothing needs an item any more, those that are gone
// apart.
func (c *Collector) free(item Candidate, gone map[string]bool) bool {
	switch item.Kind {
	case Container:
		return true
	case BuildCache:
		return !slices.ContainsFunc(item.below, func(id string) bool { return !gone[id] })
	}
	id := digest.Digest(item.ID)
	return !slices.ContainsFunc(c.c.Users(id), func(u image.User) bool { return !gone[u.Container] }) &&
		!slices.ContainsFunc(c.c.Images.Children(id), func(d digest.Digest) bool { return !gone[d.String()] })
}

// candidates returns what may go by itself, what was not used for longest first;
// of things of the same time containers come before images.
func (c *Collector) candidates(ctx context.Context, p Policy) ([]Candidate, error) {
	var out []Candidate
	before := time.Now().Add(-p.KeepWithin)
	last := map[string]time.Time{} // use of images by containers
	for _, a := range c.c.Containers() {
		r := a.View()
		used := lastUsed(r)
		if used.After(last[r.ImageID]) {
			last[r.ImageID] = used
		}
		if !removable(r) || used.After(before) || p.protected(r.Config.Labels) {
			continue
		}
		size, err := c.c.Size(ctx, r)
		if errdefs.KindOf(err) == errdefs.NotFound {
			continue
		}
		if err != nil {
			return nil, err
		}
		out = append(out, Candidate{Kind: Container, ID: r.ID, Name: r.Name, LastUsed: used, Size: size})
	}
	images := c.c.Images.List()
	sharers := map[digest.ChainID]int{}
	for _, img := range images {
		for _, chain := range img.ChainIDs {
			sharers[chain]++
		}
	}
	for _, img := range images {
		used := c.c.Images.LastUsed(img)
		if t := last[img.ID.String()]; t.After(used) {
			used = t
		}
		if used.After(before) || p.protected(img.Config.Config.Labels) {
			continue
		}
		item := Candidate{Kind: Image, ID: img.ID.String(), LastUsed: used}
		if len(img.Names) > 0 {
			item.Name = img.Names[0].Familiar()
		}
		for i, l := range img.Layers {
			if sharers[img.ChainIDs[i]] == 1 {
				item.Size += l.Size + l.Blob.Size
			}
		}
		out = append(out, item)
	}
	cache, err := c.buildCache(ctx, before)
	if err != nil {
		return nil, err
	}
	out = append(out, cache...)
	slices.SortStableFunc(out, func(a, b Candidate) int { return a.LastUsed.Compare(b.LastUsed) })
	return out, nil
}

// buildCache returns the records of the build cache that may go.
func (c *Collector) buildCache(ctx context.Context, before time.Time) ([]Candidate, error) {
	all, err := c.c.BuildUsage(ctx)
	if err != nil {
		return nil, err
	}
	below := map[string][]string{}
	for _, r := range all {
		for _, p := range r.Parents {
			below[p] = append(below[p], r.ID)
		}
	}
	var out []Candidate
	for _, r := range all {
		used := r.CreatedAt
		if r.LastUsedAt != nil {
			used = *r.LastUsedAt
		}
		if r.InUse || used.After(before) {
			continue
		}
		item := Candidate{Kind: BuildCache, ID: r.ID, Name: r.Description, LastUsed: used, below: below[r.ID]}
		if !r.Shared {
			item.Size = r.Size
		}
		out = append(out, item)
	}
	return out, nil
}

// lastUsed is when a container was of use to somebody.
func lastUsed(r *container.Record) time.Time {
	if r.State.Alive() {
		return time.Now()
	}
	last := r.Created
	for _, t := range []time.Time{r.StartedAt, r.FinishedAt} {
		if t.After(last) {
			last = t
		}
	}
	return last
}

// removable reports whether a container has ended for good: whoever wants it to
// run again, as its restart policy says, needs it.
func removable(r *container.Record) bool {
	switch r.State {
	case container.Exited:
		p := r.HostConfig.RestartPolicy
		return r.Stopped || p.IsNone() || p.IsOnFailure() || p.Name == container.OnUnhealthy
	case container.Created, container.Dead:
		return true
	}
	return false
}

// remove removes an item and returns how many bytes that freed.
func (c *Collector) remove(ctx context.Context, item Candidate) (int64, error) {
	if item.Kind == BuildCache {
		return c.c.BuildRemove(ctx, item.ID)
	}
	if item.Kind == Container {
		for _, a := range c.c.Containers() {
			if a.View().ID == item.ID {
				return item.Size, a.Remove(ctx, item.ID, false, false)
			}
		}
		return 0, errdefs.NotFoundf("No such container: %s", item.ID)
	}
	removed, freed, err := c.c.Images.Discard(ctx, digest.Digest(item.ID), c.c.Users)
	if err != nil {
		return 0, err
	}
	c.c.Removed(removed)
	return freed.Bytes, nil
}

// tell tells the event log and the daemon's; of a dry run only what is new.
func (c *Collector) tell(r Report, p Policy) {
	var names []string
	kinds := map[string]int{}
	for _, i := range r.Items {
		names = append(names, i.ID)
		kinds[i.Kind]++
	}
	if key := strings.Join(names, " "); r.DryRun {
		if key == c.told {
			return
		}
		c.told = key
	}
	if len(r.Items) == 0 && !r.Short {
		return
	}
	c.c.Publish(map[string]string{
		"reason": "disk policy", "used": strconv.FormatFloat(r.Used, 'f', 1, 64), "high": strconv.Itoa(p.High), "low": strconv.Itoa(p.Low),
		"containers": strconv.Itoa(kinds[Container]), "images": strconv.Itoa(kinds[Image]), "buildCache": strconv.Itoa(kinds[BuildCache]),
		"reclaimed": strconv.FormatInt(r.Reclaimed, 10), "dryRun": strconv.FormatBool(r.DryRun),
	})
	log := c.c.Logger.Info
	if r.Short {
		log = c.c.Logger.Warn
	}
	log("disk", "policy", r.Policy, "used", r.Used, "removed", len(r.Items), "reclaimed", r.Reclaimed, "dry run", r.DryRun, "short", r.Short)
}

// Close saves what is known of the use of images.
func (c *Collector) Close() error { return c.c.Images.SaveUses() }
