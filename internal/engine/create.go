package engine

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	apicontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/sys/signal"

	"lade/internal/engine/container"
	"lade/internal/engine/logdriver"
	"lade/internal/engine/spec"
	"lade/internal/errdefs"
	"lade/internal/failpoint"
	"lade/internal/ids"
	"lade/internal/image"
	"lade/internal/netrate"
	"lade/internal/oci"
	"lade/internal/secret"
	"lade/internal/store"
)

const defaultShmSize = 64 << 20

// ContainerCreate makes a container: a record, a snapshot, volumes. Nothing of
// it runs. Errors: Invalid for a configuration that cannot be, or that names
// what is not there, NotFound for the image alone, Conflict for a name in use;
// then nothing remains.
func (e *Engine) ContainerCreate(ctx context.Context, o CreateOptions) (r apicontainer.CreateResponse, err error) {
	r.Warnings = []string{}
	if o.Config == nil {
		return r, errdefs.Invalidf("config cannot be empty in order to create a container")
	}
	if o.Config.Image == "" && len(o.Config.Cmd) == 0 && len(o.Config.Entrypoint) == 0 {
		return r, errdefs.Invalidf("no command specified")
	}
	img, err := e.image(o.Config.Image, o.Platform)
	if err != nil {
		return r, err
	}
	defer func() { err = missingPart(err) }()
	id := ids.New()
	w, err := e.wanted(id, img, o)
	if err != nil {
		return r, err
	}
	r.Warnings = append(r.Warnings, w.warnings...)
	name, err := e.containers.reserve(o.Name, id)
	if err != nil {
		return r, err
	}
	rec := container.Record{
		ID: id, Name: name, Created: time.Now().UTC(), Config: &w.config, HostConfig: &w.host, NetRates: w.rates, Secrets: w.secrets, ImageID: img.ID.String(),
		Networks: w.networks, Driver: e.Snapshots.Name(), State: container.Created,
		NoNewPrivileges: new(e.settings().Defaults.Security.NoNewPrivileges),
	}
	args := slices.Concat(w.config.Entrypoint, w.config.Cmd)
	rec.Path, rec.Args = args[0], args[1:]
	if err := e.createAs(ctx, &rec, img, w.files); err != nil {
		e.secrets.Release(id)
		e.ranges.free(id)
		e.containers.free(name, id)
		return r, err
	}
	e.Images.Use(img.ID)
	e.containers.add(container.New(e.ctx, rec, e.host, e.log))
	e.Publish(&rec, events.ActionCreate, nil)
	r.ID = id
	return r, nil
}

// wanted is what a request to create a container comes to: completed by the
// image and by what the daemon says, and checked.
type wanted struct {
	config   apicontainer.Config
	host     apicontainer.HostConfig
	networks map[string]*network.EndpointSettings
	rates    netrate.Asked
	secrets  []secret.Reference
	files    fileOptions
	warnings []string
}

// fileOptions are what a request says of files and the record does not keep.
type fileOptions struct {
	size    int64 // limit of the container's own, in bytes; 0: none
	shallow bool  // read-only binds of Binds leave the mounts below them as they are
}

// wanted completes and checks a request for the container of that id. Nothing is
// made or held. Errors: Invalid, and NotFound for what the request names.
func (e *Engine) wanted(id string, img *image.Image, o CreateOptions) (w wanted, err error) {
	w.config, w.files.shallow = *o.Config, o.ReadOnlyNonRecursive
	if o.HostConfig != nil {
		w.host = *o.HostConfig
	}
	if err := checkModes(&w.config, &w.host); err != nil { // of what the user says, not the image
		return w, err
	}
	if err := mergeImage(&w.config, img.Config); err != nil {
		return w, err
	}
	if err := e.hostDefaults(&w.host); err != nil {
		return w, err
	}
	if w.host.UsernsMode == "" {
		w.host.UsernsMode = apicontainer.UsernsMode(w.host.Annotations[spec.UserAnnotation])
	}
	if err := spec.ApplyNesting(&w.host); err != nil {
		return w, err
	}
	if err := container.CheckHealth(w.config.Healthcheck, w.host.Annotations); err != nil {
		return w, err
	}
	if err := checkPublish(&w.config, &w.host); err != nil {
		return w, err
	}
	if w.rates, err = e.askedRates(&w.host, o.NetRates); err != nil {
		return w, err
	}
	if w.secrets, err = e.askedSecrets(w.host.Annotations); err != nil {
		return w, err
	}
	if w.files.size, err = e.askedSize(w.host.StorageOpt); err != nil {
		return w, err
	}
	if w.warnings, err = spec.Validate(&w.config, &w.host, e.Facts); err != nil {
		return w, err
	}
	if w.host.Runtime == lxcRuntime {
		if err := lxcCannot(&w.config, &w.host, e.Facts.Systemd); err != nil {
			return w, err
		}
	}
	if w.config.StopSignal != "" {
		if _, err := signal.ParseSignal(w.config.StopSignal); err != nil {
			return w, errdefs.Invalidf("%w", err)
		}
	}
	if err := e.checkShared(&w.host); err != nil {
		return w, err
	}
	if err := setHostname(&w.config, &w.host, id); err != nil {
		return w, err
	}
	if err := e.checkLinks(&w.host); err != nil {
		return w, err
	}
	networking, mode := o.Networking, w.host.NetworkMode
	if w.config.NetworkDisabled || !e.Networks.Predefined(network.NetworkBridge) && onlyBridge(networking, mode) {
		networking, mode = nil, network.NetworkNone
	}
	w.networks, err = e.endpoints(networking, mode)
	return w, err
}

// createAs gives a container its ids and labels, and creates it with these. What
// it holds after an error the caller releases.
func (e *Engine) createAs(ctx context.Context, rec *container.Record, img *image.Image, o fileOptions) (err error) {
	owner, err := e.sharedWith(rec.HostConfig)
	if err != nil {
		return err
	}
	if rec.UserNS, err = e.ranges.choose(rec.ID, rec.Config, rec.HostConfig, owner); err != nil {
		return err
	}
	if err := e.secrets.Hold(rec.ID, rec.Secrets); err != nil {
		return err
	}
	if err := e.label(rec); err != nil {
		return err
	}
	e.prepareUser(rec)
	if err := e.create(ctx, rec, img, o); err != nil {
		e.unlabel(rec)
		return err
	}
	return nil
}

// missingPart says Invalid of what a configuration names beside its image and
// does not exist: a container, a secret, a driver. Clients take NotFound for the
// image, say so, pull it, and try again.
func missingPart(err error) error {
	if errdefs.KindOf(err) == errdefs.NotFound {
		return errdefs.Invalidf("%w", err)
	}
	return err
}

// create makes what the record needs, and last the record itself.
func (e *Engine) create(ctx context.Context, rec *container.Record, img *image.Image, o fileOptions) (err error) {
	parent, err := e.Images.Ground(ctx, img, e.MountPoints)
	if err != nil {
		return err
	}
	if _, err = e.Snapshots.Prepare(ctx, rec.ID, parent); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUp)
			defer cancel()
			err = errors.Join(err, e.Snapshots.Remove(ctx, rec.ID), os.RemoveAll(e.dir(rec.ID)))
		}
	}()
	if o.size > 0 {
		if err = e.limitSize(ctx, rec.ID, o.size); err != nil {
			return err
		}
	}
	ms, undo, err := e.mounts(ctx, rec, o.shallow)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			undo()
		}
	}()
	rec.Mounts = ms
	if err = checkSecretTargets(rec); err != nil {
		return err
	}
	if err = checkIDMaps(rec); err != nil {
		return err
	}
	if err = checkRelabel(rec); err != nil {
		return err
	}
	if err = e.FillVolumes(ctx, rec); err != nil {
		return err
	}
	if err = e.relabelNew(ctx, rec); err != nil {
		return err
	}
	if err = e.makeDir(rec.ID); err != nil {
		return err
	}
	raw, err := rec.Encode()
	if err != nil {
		return err
	}
	var b store.Batch
	b.Put(bucket, rec.ID, raw)
	saved, err := e.volumes.Put(&b, rec.ID)
	if err != nil {
		return err
	}
	failpoint.Hit("engine.create")
	if err = e.Store.Commit(ctx, &b); err != nil {
		return err
	}
	failpoint.Hit("engine.created")
	saved()
	return nil
}

// mergeImage completes a container's configuration from its image's, as Docker
// does: what the user says wins; lists and maps are joined.
func mergeImage(c *apicontainer.Config, img *oci.Image) error {
	ic := img.Config
	if c.User == "" {
		c.User = ic.User
	}
	if len(ic.ExposedPorts) > 0 {
		ports := maps.Clone(c.ExposedPorts)
		if ports == nil {
			ports = network.PortSet{}
		}
		for p := range ic.ExposedPorts {
			port, err := network.ParsePort(p)
			if err != nil {
				return errdefs.Invalidf("invalid port specification in the image: %q", p)
			}
			ports[port] = struct{}{}
		}
		c.ExposedPorts = ports
	}
	c.Env = mergeEnv(ic.Env, c.Env)
	if len(ic.Labels) > 0 {
		labels := maps.Clone(ic.Labels)
		maps.Copy(labels, c.Labels)
		c.Labels = labels
	}
	if len(c.Entrypoint) == 0 {
		if len(c.Cmd) == 0 {
			c.Cmd = ic.Cmd
		}
		if c.Entrypoint == nil {
			c.Entrypoint = ic.Entrypoint
		}
	} else if len(c.Entrypoint) == 1 && c.Entrypoint[0] == "" {
		c.Entrypoint = nil // --entrypoint "" clears the image's
	}
	c.Healthcheck = mergeHealthcheck(c.Healthcheck, ic.Healthcheck)
	if path.IsAbs(c.WorkingDir) {
		c.WorkingDir = path.Clean(c.WorkingDir)
	}
	if c.WorkingDir == "" {
		c.WorkingDir = ic.WorkingDir
	}
	if len(ic.Volumes) > 0 {
		volumes := maps.Clone(ic.Volumes)
		maps.Copy(volumes, c.Volumes)
		c.Volumes = volumes
	}
	if c.StopSignal == "" {
		c.StopSignal = ic.StopSignal
	}
	if len(c.Shell) == 0 {
		c.Shell = ic.Shell
	}
	if len(c.Entrypoint) == 0 && len(c.Cmd) == 0 {
		return errdefs.Invalidf("no command specified")
	}
	return nil
}

// mergeHealthcheck completes a health check from the image's.
func mergeHealthcheck(user, image *apicontainer.HealthConfig) *apicontainer.HealthConfig {
	if user == nil || image == nil {
		return cmp.Or(user, image)
	}
	h := *user
	if len(h.Test) == 0 {
		h.Test = image.Test
	}
	h.Interval, h.Timeout = cmp.Or(h.Interval, image.Interval), cmp.Or(h.Timeout, image.Timeout)
	h.StartPeriod, h.StartInterval = cmp.Or(h.StartPeriod, image.StartPeriod), cmp.Or(h.StartInterval, image.StartInterval)
	h.Retries = cmp.Or(h.Retries, image.Retries)
	return &h
}

// mergeEnv joins two environments; the second wins. A name without a value in
// it is left as it is: the client resolved it, or it is to be removed.
func mergeEnv(image, user []string) []string {
	if len(image) == 0 {
		return user
	}
	set := map[string]bool{}
	for _, kv := range user {
		k, _, _ := strings.Cut(kv, "=")
		set[k] = true
	}
	out := slices.Clone(user)
	for _, kv := range image {
		if k, _, _ := strings.Cut(kv, "="); !set[k] {
			out = append(out, kv)
		}
	}
	return out
}

// hostDefaults fills what the request leaves open, so that inspect shows what
// holds.
func (e *Engine) hostDefaults(hc *apicontainer.HostConfig) error {
	d := e.settings().Defaults
	switch hc.NetworkMode {
	case "", "default":
		hc.NetworkMode = "bridge"
	}
	e.defaultModes(hc)
	if hc.ShmSize == 0 {
		hc.ShmSize = defaultShmSize
		if d.ShmSize > 0 {
			hc.ShmSize = d.ShmSize
		}
	}
	if hc.Memory > 0 && hc.MemorySwap == 0 {
		hc.MemorySwap = 2 * hc.Memory
	}
	if hc.MemorySwappiness != nil && *hc.MemorySwappiness == -1 {
		hc.MemorySwappiness = nil
	}
	if hc.PidsLimit != nil && *hc.PidsLimit <= 0 {
		hc.PidsLimit = nil
	}
	if hc.LogConfig.Type == "" {
		hc.LogConfig.Type = d.LogDriver
		if len(hc.LogConfig.Config) == 0 {
			hc.LogConfig.Config = maps.Clone(d.LogOptions)
		}
	}
	if hc.LogConfig.Config == nil {
		hc.LogConfig.Config = map[string]string{}
	}
	if err := logdriver.Check(hc.LogConfig); err != nil {
		return err
	}
	if hc.RestartPolicy.Name == "" {
		hc.RestartPolicy.Name = apicontainer.RestartPolicyDisabled
	}
	if err := container.CheckPolicy(hc.RestartPolicy); err != nil {
		return err
	}
	if hc.AutoRemove && !hc.RestartPolicy.IsNone() {
		return errdefs.Invalidf("can't create 'AutoRemove' container with restart policy")
	}
	name, _, err := e.settings().Runtimes.Find(hc.Runtime)
	if err != nil {
		return err
	}
	hc.Runtime = name
	if hc.Init == nil && d.Init {
		hc.Init = &d.Init
	}
	for name, u := range d.Ulimits {
		if !slices.ContainsFunc(hc.Ulimits, func(o *apicontainer.Ulimit) bool { return o.Name == name }) {
			hc.Ulimits = append(slices.Clone(hc.Ulimits), u)
		}
	}
	return nil
}

// setHostname gives the container its host's name or its own.
func setHostname(c *apicontainer.Config, hc *apicontainer.HostConfig, id string) error {
	if c.Hostname != "" || hc.NetworkMode.IsContainer() {
		return nil
	}
	if hc.UTSMode.IsHost() || hc.NetworkMode.IsHost() {
		name, err := os.Hostname()
		c.Hostname = name
		return err
	}
	c.Hostname = ids.Truncate(id)
	return nil
}
