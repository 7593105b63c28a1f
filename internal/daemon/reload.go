package daemon

import (
	"fmt"
	"log/slog"
	"maps"
	"reflect"

	"lade/internal/engine"
)

// reload reads the configuration again and returns the one that holds from now
// on: was, where the new one is not valid, of which nothing is taken over then.
// The log tells what changed and what waits for a restart of the daemon.
func reload(args []string, was *Config, e *engineService, log *slog.Logger, level *slog.LevelVar) *Config {
	said, err := Load(args)
	if err != nil {
		log.Error("configuration not reloaded", "error", err)
		return was
	}
	now := was.follow(said)
	changed := changes(was, now)
	level.Set(levelOf(now.LogLevel))
	if e.Reload != nil {
		e.Reload(now, changed)
	}
	for _, c := range changed {
		log.Info("option changed", "option", c.key, "value", c.value)
	}
	for _, c := range changes(now, said) {
		log.Warn("option changes when the daemon is restarted", "option", c.key, "value", c.value)
	}
	log.Info("configuration reloaded", "changed", len(changed))
	return now
}

// follow returns a copy that has from said what can change while the daemon
// runs: what new containers get, who is asked for images, what is logged. All
// else was used when the daemon started.
func (c *Config) follow(said *Config) *Config {
	now := *c
	now.Debug, now.LogLevel = said.Debug, said.LogLevel
	now.Labels = said.Labels
	now.Authorization = said.Authorization
	now.Disk = said.Disk
	now.Runtimes, now.DefaultRuntime = said.Runtimes, said.DefaultRuntime
	now.LogDriver, now.LogOptions = said.LogDriver, said.LogOptions
	now.Ulimits, now.ShmSize, now.StopTimeout, now.Init = said.Ulimits, said.ShmSize, said.StopTimeout, said.Init
	now.CDIDirs, now.Features = said.CDIDirs, maps.Clone(now.Features)
	if on, ok := said.Features[cdiFeature]; ok {
		now.Features[cdiFeature] = on
	} else {
		delete(now.Features, cdiFeature)
	}
	now.IPCMode, now.CgroupNamespace = said.IPCMode, said.CgroupNamespace
	now.Mirrors, now.Insecure, now.Named = said.Mirrors, said.Insecure, said.Named
	now.MaxDownloads, now.MaxUploads, now.MaxTransfers = said.MaxDownloads, said.MaxUploads, said.MaxTransfers
	now.MaxDownloadAttempts = said.MaxDownloadAttempts
	now.PublishPolicy = said.PublishPolicy
	now.HostGatewayIPs, now.NetworkOptions = said.HostGatewayIPs, said.NetworkOptions
	now.DNS, now.DNSSearch, now.DNSOptions = said.DNS, said.DNSSearch, said.DNSOptions
	return &now
}

// change is an option of another value.
type change struct{ key, value string }

// changes compares two configurations option by option.
func changes(was, now *Config) (all []change) {
	was, now = new(*was), new(*now) // declaring an option writes to its place
	flags := newFlags()
	before := declare(was, newFlags())
	for i, o := range declare(now, flags) {
		if o.key == "" || reflect.DeepEqual(before[i].target, o.target) {
			continue
		}
		c := change{key: o.key}
		if f := flags.Lookup(o.flag); f != nil {
			c.value = f.Value.String()
		} else if s, ok := o.target.(fmt.Stringer); ok {
			c.value = s.String()
		}
		all = append(all, c)
	}
	return all
}

// reload tells the engine of new settings.
func (p *parts) reload(c *Config, changed []change) {
	attributes := make(map[string]string, len(changed)+1)
	for _, c := range changed {
		attributes[c.key] = c.value
	}
	if err := p.registry.Reload(p.registryConfig(c)); err != nil {
		p.registries.Logger.Error("registries not reloaded", "error", err)
	}
	if err := p.networks.SetPublishPolicy(c.PublishPolicy); err != nil {
		p.registries.Logger.Error("publish policy not reloaded", "error", err)
	}
	p.engine.Reload(p.settings(c), attributes)
}

// settings are what the engine is told of the configuration, at its start and
// by a reload.
func (p *parts) settings(c *Config) engine.Settings {
	return engine.Settings{
		Defaults: engine.Defaults{
			LogDriver: c.LogDriver, LogOptions: c.LogOptions, CgroupParent: c.CgroupParent, ShmSize: int64(c.ShmSize), Init: c.Init,
			IPCMode: c.IPCMode, CgroupnsMode: c.CgroupNamespace, StopTimeout: c.StopTimeout, Ulimits: c.Ulimits,
			DNS: c.DNS, DNSSearch: c.DNSSearch, DNSOptions: c.DNSOptions, UsernsRemap: c.UsernsRemap, Security: p.security,
			StorageSize: p.snapshots.size, HostGateway: addrsOf(c.HostGatewayIPs), NetworkOptions: c.NetworkOptions,
			CDIDirs: c.cdiDirs(),
		},
		Runtimes: runtimesOf(&c.Containers),
		Labels:   c.Labels,
		Disk:     c.Disk.policy(),
	}
}
