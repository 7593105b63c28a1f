package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	apicontainer "github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/engine/container"
	"lade/internal/engine/spec"
	"lade/internal/errdefs"
	"lade/internal/linux/idmap"
	"lade/internal/linux/sys"
	"lade/internal/supervisor"
)

// Ids of the host that are given to containers. systemd leaves 524288 to
// 1879048191 to containers (its UIDS-GIDS.md); the upper half of that is far
// from what distributions write into /etc/subuid.
const (
	autoFirst = 0x40000000
	autoEnd   = 0x70000000
	// remapFirst is where the daemon's default begins when /etc/subuid gives
	// dockremap nothing.
	remapFirst = autoFirst - spec.AutoSize
	// remapUser is who "default" stands for.
	remapUser = "dockremap"
)

// rangeAnnotation is where inspect shows the ids of a container.
const rangeAnnotation = "lade.userns-range"

// idRanges knows the ids of every container with a user namespace, and holds user
// namespaces that were made in advance. That of the next container with ids of its own
// the supervisor holds, which is told of these ids with a start: a spare range, which is
// nobody else's, in taken[spareKey].
type idRanges struct {
	remap  idmap.Map // of containers that say nothing; empty: the host's
	nested bool      // the engine is in a user namespace itself

	mu    sync.Mutex
	taken map[string]*container.UserNS // guarded by mu: by container
	given idmap.Given                  // guarded by mu: to users of the host
	next  uint32                       // guarded by mu: where the search for free ids begins
	ready map[string]*readyUser        // guarded by mu: by container
}

// readyUser is a user namespace that is being made, or is; without descriptors it is
// the supervisor's, which finds it by its ids.
type readyUser struct {
	done      chan struct{}
	user, net *os.File
	err       error
}

func (u *readyUser) close() {
	for _, f := range []*os.File{u.user, u.net} {
		if f != nil {
			f.Close()
		}
	}
}

// drop waits until the namespace is made, and gives it up.
func (u *readyUser) drop() {
	<-u.done
	u.close()
}

// maxReady is how many namespaces wait for a start; each is two descriptors.
const maxReady = 32

func newIDRanges(remap string) (*idRanges, error) {
	u := &idRanges{taken: map[string]*container.UserNS{}, ready: map[string]*readyUser{}, next: autoFirst, nested: sys.Nested()}
	var err error
	if u.remap, err = parseRemap(remap); err == nil && u.nested && !u.remap.Empty() {
		err = fmt.Errorf("userns-remap: %w", errNested())
	}
	return u, err
}

// parseRemap reads the daemon's --userns-remap: "default", or a user and, after
// a colon, a group, by name or number, whose subordinate ids are used. Errors:
// Invalid.
func parseRemap(s string) (m idmap.Map, err error) {
	if s == "" {
		return m, nil
	}
	var uids, gids []string
	if s == "default" {
		uids, gids = []string{remapUser}, []string{remapUser}
	} else {
		name, group, grouped := strings.Cut(s, ":")
		who, err := lookUser(name)
		if err != nil {
			return m, errdefs.Invalidf("userns-remap: %w", err)
		}
		uids, gids = []string{who.Username, who.Uid}, []string{who.Username, who.Uid}
		if grouped {
			g, err := lookGroup(group)
			if err != nil {
				return m, errdefs.Invalidf("userns-remap: %w", err)
			}
			gids = []string{g.Name, g.Gid}
		}
	}
	if m.UID, err = idmap.Subordinate(idmap.SubUID, uids...); err != nil {
		return m, err
	}
	if m.GID, err = idmap.Subordinate(idmap.SubGID, gids...); err != nil {
		return m, err
	}
	switch {
	case s == "default" && m.Empty():
		return idmap.Range(remapFirst, remapFirst, spec.AutoSize), nil
	case len(m.UID) == 0:
		return m, errdefs.Invalidf("no subuid ranges found for user %q", uids[0])
	case len(m.GID) == 0:
		return m, errdefs.Invalidf("no subgid ranges found for group %q", gids[0])
	}
	return m, m.Check()
}

func lookUser(s string) (*user.User, error) {
	if _, err := strconv.ParseUint(s, 10, 32); err == nil {
		return user.LookupId(s)
	}
	return user.Lookup(s)
}

func lookGroup(s string) (*user.Group, error) {
	if _, err := strconv.ParseUint(s, 10, 32); err == nil {
		return user.LookupGroupId(s)
	}
	return user.LookupGroup(s)
}

// choose decides about a new container's user namespace, and keeps its ids for
// it until free; nil: the host's. owner is the container whose other namespaces
// it shares, or nil. Errors: Invalid; NotImplemented where the engine has no ids
// to give; Exhausted without free ids.
func (u *idRanges) choose(id string, c *apicontainer.Config, hc *apicontainer.HostConfig, owner *container.Record) (*container.UserNS, error) {
	mode, err := spec.ParseUser(string(hc.UsernsMode))
	if err != nil {
		return nil, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	var ns *container.UserNS
	switch {
	case owner != nil:
		if mode.Kind != spec.UserDefault && (mode.Kind != spec.UserHost || owner.UserNS != nil) {
			return nil, errNotShared()
		}
		if ns = owner.UserNS; ns != nil {
			ns = &container.UserNS{IDs: ns.IDs}
		}
	case mode.Kind == spec.UserAuto:
		ns, err = u.allocate(mode.Size)
	case mode.Kind == spec.UserKeep:
		ns, err = u.keep(c, mode)
	case mode.Kind == spec.UserRemap:
		ns = &container.UserNS{IDs: idmap.Range(mode.UID, mode.GID, mode.Size)}
	case mode.Kind == spec.UserDefault && !u.remap.Empty():
		ns = &container.UserNS{IDs: u.remap}
	}
	if err != nil || ns == nil {
		return nil, err
	}
	if err := spec.CheckUser(hc); err != nil {
		return nil, err
	}
	if u.nested {
		return nil, errNested()
	}
	if held := u.taken[spareKey]; held != nil && ns.IDs.Overlaps(held.IDs) {
		if ns.IDs.Equal(held.IDs) && !spec.OwnsNetwork(hc) && (hc.Runtime == "" || hc.Runtime == DefaultRuntime) {
			u.ready[id] = atSupervisor()
		}
		delete(u.taken, spareKey)
	}
	u.taken[id] = ns
	return ns, nil
}

// errNotShared refuses namespaces of which some belong to one user namespace and
// some to another.
func errNotShared() error {
	return errdefs.Invalidf("conflicting options: to share a namespace, the containers must also share a user namespace")
}

// errNested refuses user namespaces where the engine is in one itself. What it
// could map are its own ids; but the layers and volumes are on file systems of the
// host's root, who alone may have them translated (mount_setattr(2), EPERM).
func errNested() error {
	return errdefs.NotImplementedf("the engine runs in a user namespace itself, and can give containers no ids of their own: they can have its own (--userns=host), also with --privileged")
}

// spareKey is the spare range's in taken: no container has it.
const spareKey = ""

// atSupervisor is a namespace that the supervisor holds.
func atSupervisor() *readyUser {
	r := &readyUser{done: make(chan struct{})}
	close(r.done)
	return r
}

// reserveSpare chooses the ids of the next container; nil: that has been done.
func (u *idRanges) reserveSpare() *container.UserNS {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.taken[spareKey] != nil {
		return nil
	}
	ns, err := u.allocate(spec.AutoSize)
	if err != nil {
		return nil // who asks next is told
	}
	u.taken[spareKey] = ns
	return ns
}

// allocate finds ids that nobody has: no container, no user of /etc/subuid. It
// goes on where it was, so that ids are not used again at once.
func (u *idRanges) allocate(size uint32) (*container.UserNS, error) {
	theirs, err := u.given.IDs()
	if err != nil {
		return nil, err
	}
	switch held := u.taken[spareKey]; {
	case held == nil:
	case held.IDs.Overlaps(theirs): // the file has changed
		delete(u.taken, spareKey)
	case size == spec.AutoSize:
		return &container.UserNS{IDs: held.IDs, Own: true}, nil
	}
	step := (size + spec.AutoSize - 1) &^ (spec.AutoSize - 1)
	from := u.next
	for range (autoEnd - autoFirst) / spec.AutoSize {
		if from+step > autoEnd {
			from = autoFirst
		}
		ids := idmap.Range(from, from, size)
		if !ids.Overlaps(theirs) && !ids.Overlaps(u.remap) && !u.overlaps(ids) {
			u.next = from + step
			return &container.UserNS{IDs: ids, Own: true}, nil
		}
		from += spec.AutoSize
	}
	return nil, errdefs.Exhaustedf("no range of %d user ids is free", size)
}

func (u *idRanges) overlaps(ids idmap.Map) bool {
	for _, ns := range u.taken {
		if ids.Overlaps(ns.IDs) {
			return true
		}
	}
	return false
}

// keep makes one user the same inside and outside; the others get ids of the
// container's own.
func (u *idRanges) keep(c *apicontainer.Config, mode spec.UserMode) (*container.UserNS, error) {
	if !mode.Named {
		uid, gid, grouped := strings.Cut(c.User, ":")
		if !grouped {
			gid = uid
		}
		n, err1 := strconv.ParseUint(uid, 10, 32)
		m, err2 := strconv.ParseUint(gid, 10, 32)
		if err1 != nil || err2 != nil {
			return nil, errdefs.Invalidf("--userns=keep-id needs a numeric --user, or the ids: keep-id:UID:GID")
		}
		mode.UID, mode.GID = uint32(n), uint32(m)
	}
	if mode.UID == 0 || mode.GID == 0 || mode.UID >= spec.AutoSize || mode.GID >= spec.AutoSize {
		return nil, errdefs.Invalidf("--userns=keep-id keeps a user and a group from 1 to %d", spec.AutoSize-1)
	}
	ns, err := u.allocate(spec.AutoSize)
	if err != nil {
		return nil, err
	}
	first := ns.IDs.UID[0].HostID
	around := func(id uint32) []specs.LinuxIDMapping {
		lines := []specs.LinuxIDMapping{{ContainerID: 0, HostID: first, Size: id}, {ContainerID: id, HostID: id, Size: 1}}
		if id+1 < spec.AutoSize {
			lines = append(lines, specs.LinuxIDMapping{ContainerID: id + 1, HostID: first + id + 1, Size: spec.AutoSize - id - 1})
		}
		return lines
	}
	ns.IDs = idmap.Map{UID: around(mode.UID), GID: around(mode.GID)}
	return ns, nil
}

// note keeps the ids of a container that is there already.
func (u *idRanges) note(r *container.Record) {
	if r.UserNS == nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.taken[r.ID] = r.UserNS
	if last := r.UserNS.IDs.UID[0].HostID; r.UserNS.Own && last >= u.next && last < autoEnd {
		u.next = (last + spec.AutoSize) &^ (spec.AutoSize - 1)
	}
}

// free gives a container's ids back, and what was made for its start.
func (u *idRanges) free(id string) {
	u.mu.Lock()
	delete(u.taken, id)
	u.mu.Unlock()
	if r := u.take(id); r != nil {
		go r.drop()
	}
}

// take returns what was made for a container's start, or nil.
func (u *idRanges) take(id string) *readyUser {
	u.mu.Lock()
	defer u.mu.Unlock()
	r := u.ready[id]
	delete(u.ready, id)
	return r
}

// reserve notes that a namespace is being made for a container's start; nil: there
// are enough, or it has one.
func (u *idRanges) reserve(id string) *readyUser {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.ready) >= maxReady || u.ready[id] != nil {
		return nil
	}
	r := &readyUser{done: make(chan struct{})}
	u.ready[id] = r
	return r
}

// close gives up everything that was made in advance.
func (u *idRanges) close() {
	u.mu.Lock()
	all := slices.Collect(maps.Values(u.ready))
	clear(u.ready)
	delete(u.taken, spareKey)
	u.mu.Unlock()
	for _, r := range all {
		r.drop()
	}
}

// sharedWith returns the container whose network, pid or ipc namespace another
// one joins, or nil; also when there is no such container, which is for those to
// tell that join it. Errors: Invalid when it joins those of several, which have
// different ids.
func (e *host) sharedWith(hc *apicontainer.HostConfig) (owner *container.Record, err error) {
	for _, of := range []struct {
		joins bool
		name  string
	}{
		{hc.NetworkMode.IsContainer(), hc.NetworkMode.ConnectedContainer()},
		{hc.PidMode.IsContainer(), hc.PidMode.Container()},
		{hc.IpcMode.IsContainer(), hc.IpcMode.Container()},
	} {
		if !of.joins {
			continue
		}
		a, err := e.containers.find(of.name)
		if err != nil {
			continue
		}
		switch r := a.View(); {
		case owner == nil:
			owner = r
		case !owner.UserNS.Same(r.UserNS):
			return nil, errNotShared()
		}
	}
	return owner, nil
}

// prepareUser makes, beside the caller, the user namespace of a container that is
// likely to be started soon.
func (e *host) prepareUser(r *container.Record) {
	if r.UserNS == nil {
		return
	}
	if owner, err := e.sharedWith(r.HostConfig); owner != nil || err != nil {
		return
	}
	ready := e.ranges.reserve(r.ID)
	if ready == nil {
		return
	}
	e.work.Go(func() {
		defer close(ready.done)
		ready.user, ready.net, ready.err = e.sup.makeUser(e.ctx, r.UserNS.IDs, ownsNetwork(r))
	})
}

// nextUser returns the ids of the container that will ask next for ids of its own, for
// the supervisor, who makes its user namespace when r has been started: then nobody
// waits for it. nil: it knows them, or nobody is likely to ask.
func (e *host) nextUser(r *container.Record) *idmap.Map {
	if r.UserNS == nil || !r.UserNS.Own {
		return nil
	}
	if ns := e.ranges.reserveSpare(); ns != nil {
		return &ns.IDs
	}
	return nil
}

// ownsNetwork reports whether a container needs a network namespace that belongs
// to its user namespace: other runtimes enter that first, and have no power over
// what is the host's any more.
func ownsNetwork(r *container.Record) bool {
	mode := r.HostConfig.NetworkMode
	return (spec.OwnsNetwork(r.HostConfig) || othersRuntime(r)) && !mode.IsContainer() && !mode.IsHost()
}

func othersRuntime(r *container.Record) bool { return r.HostConfig.Runtime != DefaultRuntime }

// launchUser is the user namespace of a start. Its zero value is the host's.
type launchUser struct {
	ids       idmap.Map
	path      string   // of the one to join, or
	user, net *os.File // made for this start; nil: the supervisor makes it
}

func (u *launchUser) close() { (&readyUser{user: u.user, net: u.net}).close() }

// launchUser returns the user namespace for a start. The caller must close it.
func (e *host) launchUser(ctx context.Context, r *container.Record) (u launchUser, err error) {
	owner, err := e.sharedWith(r.HostConfig)
	if err != nil {
		return u, err
	}
	if owner != nil {
		// Whoever it is by now.
		if owner.UserNS != nil && owner.State.Alive() && owner.Pid > 0 {
			if err := spec.CheckUser(r.HostConfig); err != nil {
				return u, err
			}
			u.ids, u.path = owner.UserNS.IDs, filepath.Join("/proc", itoa(owner.Pid), "ns/user")
		}
		return u, nil
	}
	if r.UserNS == nil {
		return u, nil
	}
	u.ids = r.UserNS.IDs
	if ready := e.ranges.take(r.ID); ready != nil {
		<-ready.done
		if ready.err == nil && (ready.net != nil || !ownsNetwork(r)) && (ready.user != nil || !othersRuntime(r)) {
			u.user, u.net = ready.user, ready.net
			return u, nil
		}
		ready.close() // it was made for a container that needs less
	}
	if net := ownsNetwork(r); net || othersRuntime(r) {
		u.user, u.net, err = e.sup.makeUser(ctx, u.ids, net)
	}
	return u, err
}

// makeLaunchUser makes the user namespace of a start, if that is left to the
// supervisor, for a runtime that takes none from it.
func (e *host) makeLaunchUser(ctx context.Context, u *launchUser) (err error) {
	if u.user == nil && u.path == "" && !u.ids.Empty() {
		u.user, _, err = e.sup.makeUser(ctx, u.ids, false)
	}
	return err
}

// makeUser asks the supervisor for a user namespace.
func (l *link) makeUser(ctx context.Context, ids idmap.Map, net bool) (userNS, netNS *os.File, err error) {
	err = l.do(ctx, func(c *supervisor.Client) (err error) {
		userNS, netNS, err = c.MakeUser(ctx, ids, net)
		return err
	})
	return userNS, netNS, err
}

// shownHostConfig is a container's configuration with its ids.
func shownHostConfig(r *container.Record) *apicontainer.HostConfig {
	if r.UserNS == nil && len(r.HostConfig.Links) == 0 {
		return r.HostConfig
	}
	hc := *r.HostConfig
	hc.Links = shownLinks(r)
	if r.UserNS == nil {
		return &hc
	}
	hc.Annotations = maps.Clone(hc.Annotations)
	if hc.Annotations == nil {
		hc.Annotations = map[string]string{}
	}
	hc.Annotations[rangeAnnotation] = idLines(r.UserNS.IDs.UID) + " " + idLines(r.UserNS.IDs.GID)
	return &hc
}

// idLines writes a map as "inside:host:size", with commas between.
func idLines(lines []specs.LinuxIDMapping) string {
	var out []string
	for _, l := range lines {
		out = append(out, strconv.FormatUint(uint64(l.ContainerID), 10)+":"+strconv.FormatUint(uint64(l.HostID), 10)+":"+strconv.FormatUint(uint64(l.Size), 10))
	}
	return strings.Join(out, ",")
}

// makeSource makes a directory, and those that lead to it; what is new belongs to
// the container's root.
func makeSource(dir string, ns *container.UserNS) error {
	var made []string
	for p := dir; ; p = filepath.Dir(p) {
		if _, err := os.Lstat(p); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		made = append(made, p)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil || ns == nil {
		return err
	}
	uid, gid, ok := ns.IDs.Host(0, 0)
	if !ok {
		return nil // then nobody there could use it as root
	}
	for _, p := range made {
		if err := os.Lchown(p, int(uid), int(gid)); err != nil {
			return err
		}
	}
	return nil
}
