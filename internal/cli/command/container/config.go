package container

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"lade/internal/cli/opt"
)

// spec is the body of a create request.
type spec struct {
	config  *container.Config
	host    *container.HostConfig
	network *network.NetworkingConfig
	ports   map[string]string // the annotations about published ports, which are in host, too
}

// spec turns the flags into a request for a container of image that runs args.
func (o *flags) spec(image string, args []string) (*spec, error) {
	if o.mac != "" {
		if _, err := net.ParseMAC(strings.TrimSpace(o.mac)); err != nil {
			return nil, fmt.Errorf("%s is not a valid mac address", o.mac)
		}
	}
	if o.swappiness != -1 && (o.swappiness < 0 || o.swappiness > 100) {
		return nil, fmt.Errorf("invalid value: %d. Valid memory swappiness range is 0-100", o.swappiness)
	}
	s := &spec{}
	o.userns, o.user = keepCaller(o.userns, o.user, os.Getuid(), os.Getgid())
	var err error
	if s.config, err = o.config(image, args); err != nil {
		return nil, err
	}
	if s.host, err = o.hostConfig(); err != nil {
		return nil, err
	}
	binds, volumes, err := o.binds()
	if err != nil {
		return nil, err
	}
	s.host.Binds, s.config.Volumes = binds, volumes
	if s.config.ExposedPorts, s.host.PortBindings, s.ports, err = opt.Ports(o.publish.Values(), o.expose.Values()); err != nil {
		return nil, err
	}
	annotate(s.host, s.ports)
	if s.config.Env, err = opt.EnvFiles(o.envFile.Values(), o.env.Values()); err != nil {
		return nil, err
	}
	labels, err := opt.LabelFiles(o.labelFile.Values(), o.labels.Values())
	if err != nil {
		return nil, err
	}
	s.config.Labels = opt.Pairs(labels)
	if o.remove && !s.host.RestartPolicy.IsNone() {
		return nil, errors.New("conflicting options: cannot specify both --restart and --rm")
	}
	endpoints, err := o.endpoints()
	if err != nil {
		return nil, err
	}
	s.network = &network.NetworkingConfig{EndpointsConfig: endpoints}
	return s, nil
}

func (o *flags) config(image string, args []string) (*container.Config, error) {
	c := &container.Config{
		Hostname:    o.hostname,
		Domainname:  o.domainname,
		User:        o.user,
		Tty:         o.tty,
		OpenStdin:   o.stdin,
		AttachStdin: o.stdin || o.attach.Has("stdin"),
		// Without -a the outputs are attached.
		AttachStdout: len(o.attach.Values()) == 0 || o.attach.Has("stdout"),
		AttachStderr: len(o.attach.Values()) == 0 || o.attach.Has("stderr"),
		Image:        image,
		WorkingDir:   o.workdir,
		StopSignal:   o.stopSignal,
	}
	if len(args) > 0 {
		c.Cmd = args
	}
	if o.set.Changed("entrypoint") {
		// An empty one resets the image's.
		c.Entrypoint = []string{o.entrypoint}
	}
	if o.set.Changed("stop-timeout") {
		c.StopTimeout = &o.stopTimeout
	}
	// The engine closes stdin when the one client that attached to it leaves.
	c.StdinOnce = c.OpenStdin && c.AttachStdin
	var err error
	c.Healthcheck, err = o.healthcheck()
	return c, err
}

func (o *flags) hostConfig() (*container.HostConfig, error) {
	resources, err := o.resourceConfig()
	if err != nil {
		return nil, err
	}
	h := &container.HostConfig{
		Resources:       *resources,
		ContainerIDFile: o.cidFile,
		OomScoreAdj:     o.oomScore,
		AutoRemove:      o.remove,
		Privileged:      o.privileged,
		Links:           o.links.Values(),
		PublishAllPorts: o.publishAll,
		DNSSearch:       o.dnsSearch.OrEmpty(),
		DNSOptions:      o.dnsOptions.OrEmpty(),
		ExtraHosts:      o.extraHosts.Values(),
		VolumesFrom:     o.volumesFrom.Values(),
		IpcMode:         container.IpcMode(o.ipc),
		NetworkMode:     container.NetworkMode(o.networks.Mode()),
		PidMode:         container.PidMode(o.pid),
		UTSMode:         container.UTSMode(o.uts),
		UsernsMode:      container.UsernsMode(o.userns),
		CgroupnsMode:    container.CgroupnsMode(o.cgroupns),
		CapAdd:          o.capAdd.Values(),
		CapDrop:         o.capDrop.Values(),
		GroupAdd:        o.groupAdd.Values(),
		ReadonlyRootfs:  o.readOnly,
		LogConfig:       container.LogConfig{Type: o.logDriver, Config: opt.Pairs(o.logOpts.Values())},
		VolumeDriver:    o.volumeDriver,
		Isolation:       container.Isolation(o.isolation),
		ShmSize:         int64(o.shmSize),
		Tmpfs:           map[string]string{},
		Sysctls:         o.sysctls.Values(),
		Runtime:         o.runtime,
		Mounts:          o.mounts.Values(),
		Annotations:     o.annotations.Values(),
	}
	switch {
	case !h.PidMode.Valid():
		return nil, errors.New("--pid: invalid PID mode")
	case !h.UTSMode.Valid():
		return nil, errors.New("--uts: invalid UTS mode")
	case !validUser(o.userns):
		return nil, errors.New("--userns: invalid USER mode")
	case !h.CgroupnsMode.Valid():
		return nil, errors.New("--cgroupns: invalid CGROUP mode")
	}
	for target, ids := range o.mounts.IDMaps {
		h.Annotations[idmapPrefix+target] = ids
	}
	if h.DNS, err = addrs(o.dns.Values()); err != nil {
		return nil, err
	}
	for _, t := range o.tmpfs.Values() {
		dir, options, _ := strings.Cut(t, ":")
		h.Tmpfs[dir] = options
	}
	if h.RestartPolicy, err = restartPolicy(o.restart); err != nil {
		return nil, err
	}
	if o.logDriver == "none" && len(o.logOpts.Values()) > 0 {
		return nil, fmt.Errorf("invalid logging opts for driver %s", o.logDriver)
	}
	if err := o.securityOpts(h); err != nil {
		return nil, err
	}
	if h.StorageOpt, err = storageOpts(o.storage.Values()); err != nil {
		return nil, err
	}
	if o.set.Changed("init") {
		h.Init = &o.init
	}
	return h, nil
}

func (o *flags) resourceConfig() (*container.Resources, error) {
	r := &container.Resources{
		CgroupParent:         o.cgroupParent,
		Memory:               int64(o.memory),
		MemoryReservation:    int64(o.reservation),
		MemorySwap:           int64(o.memorySwap),
		MemorySwappiness:     &o.swappiness,
		OomKillDisable:       &o.oomKillDisable,
		NanoCPUs:             int64(o.cpus),
		CPUCount:             o.cpuCount,
		CPUPercent:           o.cpuPercent,
		CPUShares:            o.cpuShares,
		CPUPeriod:            o.cpuPeriod,
		CPUQuota:             o.cpuQuota,
		CPURealtimePeriod:    o.cpuRTPeriod,
		CPURealtimeRuntime:   o.cpuRTRuntime,
		CpusetCpus:           o.cpusetCpus,
		CpusetMems:           o.cpusetMems,
		PidsLimit:            &o.pidsLimit,
		BlkioWeight:          o.blkioWeight,
		BlkioWeightDevice:    o.weights.Values(),
		BlkioDeviceReadBps:   o.readBps.Values(),
		BlkioDeviceWriteBps:  o.writeBps.Values(),
		BlkioDeviceReadIOps:  o.readIOps.Values(),
		BlkioDeviceWriteIOps: o.writeIOps.Values(),
		IOMaximumIOps:        o.ioMaxIOps,
		IOMaximumBandwidth:   uint64(o.ioMaxBandwidth),
		Ulimits:              o.ulimits.Values(),
		DeviceCgroupRules:    o.deviceRules.Values(),
		Devices:              []container.DeviceMapping{},
		DeviceRequests:       o.gpus.Values(),
	}
	var cdi []string
	for _, d := range o.devices.Values() {
		if cdiName(d) {
			cdi = append(cdi, d)
			continue
		}
		host, ctr, mode, err := opt.Device(d)
		if err != nil {
			return nil, err
		}
		r.Devices = append(r.Devices, container.DeviceMapping{PathOnHost: host, PathInContainer: ctr, CgroupPermissions: mode})
	}
	if len(cdi) > 0 {
		r.DeviceRequests = append(r.DeviceRequests, container.DeviceRequest{Driver: "cdi", DeviceIDs: cdi})
	}
	return r, nil
}

// cdiName reports whether a device is one of the Container Device Interface:
// vendor/class=name.
//
// Source: CDI SPEC.md, "kind".
func cdiName(d string) bool {
	return regexp.MustCompile(`^[A-Za-z]([A-Za-z0-9._-]*[A-Za-z0-9])?/[A-Za-z]([A-Za-z0-9_-]*[A-Za-z0-9])?=[A-Za-z0-9]([A-Za-z0-9_.:-]*[A-Za-z0-9])?$`).MatchString(d)
}

// binds divides -v into the API's binds and the anonymous volumes of the image.
func (o *flags) binds() (binds []string, volumes map[string]struct{}, err error) {
	volumes = map[string]struct{}{}
	seen := map[string]bool{}
	for _, v := range o.volumes.Values() {
		if seen[v] {
			continue
		}
		seen[v] = true
		bind, _, err := opt.Volume(v)
		if err != nil {
			return nil, nil, err
		}
		if bind == "" {
			volumes[v] = struct{}{}
		} else {
			binds = append(binds, bind)
		}
	}
	return binds, volumes, nil
}

func addrs(list []string) ([]netip.Addr, error) {
	out := make([]netip.Addr, 0, len(list))
	for _, s := range list {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return nil, fmt.Errorf("invalid IP address: %s", s)
		}
		out = append(out, a)
	}
	return out, nil
}

func restartPolicy(v string) (p container.RestartPolicy, err error) {
	if v == "" {
		return p, nil
	}
	name, count, ok := strings.Cut(v, ":")
	if ok && name == "" {
		return p, errors.New("invalid restart policy format: no policy provided before colon")
	}
	if count != "" {
		if p.MaximumRetryCount, err = strconv.Atoi(count); err != nil {
			return p, errors.New("invalid restart policy format: maximum retry count must be an integer")
		}
	}
	p.Name = container.RestartPolicyMode(name)
	return p, nil
}

func storageOpts(list []string) (map[string]string, error) {
	for _, s := range list {
		if !strings.Contains(s, "=") {
			return nil, errors.New("invalid storage option")
		}
	}
	return opt.Pairs(list), nil
}

// securityOpts sends a seccomp profile's content instead of its name, and turns
// systempaths=unconfined into empty lists of masked and read-only paths.
func (o *flags) securityOpts(h *container.HostConfig) error {
	for _, s := range o.security.Values() {
		if s == "systempaths=unconfined" {
			h.MaskedPaths, h.ReadonlyPaths = []string{}, []string{}
			continue
		}
		k, v, ok := strings.Cut(s, "=")
		if !ok && k != "no-new-privileges" {
			k, v, ok = strings.Cut(s, ":")
		}
		if (!ok || v == "") && k != "no-new-privileges" {
			return fmt.Errorf("Invalid --security-opt: %q", s)
		}
		if k == "seccomp" && v != "builtin" && v != "unconfined" {
			f, err := os.ReadFile(v)
			if err != nil {
				return fmt.Errorf("opening seccomp profile (%s) failed: %w", v, err)
			}
			var b bytes.Buffer
			if err := json.Compact(&b, f); err != nil {
				return fmt.Errorf("compacting json for seccomp profile (%s) failed: %w", v, err)
			}
			s = "seccomp=" + b.String()
		}
		h.SecurityOpt = append(h.SecurityOpt, s)
	}
	if h.SecurityOpt == nil && len(o.security.Values()) > 0 {
		h.SecurityOpt = []string{}
	}
	return nil
}

func (o *flags) healthcheck() (*container.HealthConfig, error) {
	h := &container.HealthConfig{
		Interval:      o.healthInterval,
		Timeout:       o.healthTimeout,
		StartPeriod:   o.healthStartPeriod,
		StartInterval: o.healthStartInterval,
		Retries:       o.healthRetries,
	}
	if o.healthCmd != "" {
		h.Test = []string{"CMD-SHELL", o.healthCmd}
	}
	given := !reflect.DeepEqual(h, &container.HealthConfig{})
	switch {
	case o.noHealth && given:
		return nil, errors.New("--no-healthcheck conflicts with --health-* options")
	case o.noHealth:
		return &container.HealthConfig{Test: []string{"NONE"}}, nil
	case !given:
		return nil, nil
	}
	for _, n := range []struct {
		name     string
		negative bool
	}{
		{"interval", h.Interval < 0}, {"timeout", h.Timeout < 0}, {"retries", h.Retries < 0},
		{"start-period", h.StartPeriod < 0}, {"start-interval", h.StartInterval < 0},
	} {
		if n.negative {
			return nil, fmt.Errorf("--health-%s cannot be negative", n.name)
		}
	}
	return h, nil
}

// endpoints joins --network with the older flags that describe the first
// network: --ip, --ip6, --link, --link-local-ip, --mac-address, --network-alias.
func (o *flags) endpoints() (map[string]*network.EndpointSettings, error) {
	all := map[string]*network.EndpointSettings{}
	nets := o.networks.Values()
	if len(nets) == 0 {
		a := opt.Attachment{Target: "default"}
		if err := o.mergeInto(&a); err != nil {
			return nil, err
		}
		ep, err := endpoint(a)
		all["default"] = ep
		return all, err
	}
	own, foreign := false, false
	for i, a := range nets {
		if userDefined(a.Target) {
			own = true
		} else {
			foreign = true
		}
		if i == 0 {
			if err := o.mergeInto(&a); err != nil {
				return nil, err
			}
		}
		ep, err := endpoint(a)
		if err != nil {
			return nil, err
		}
		if _, twice := all[a.Target]; twice {
			return nil, fmt.Errorf("network %q is specified multiple times", a.Target)
		}
		// A single network without options is said by the network mode alone.
		if len(nets) == 1 && reflect.DeepEqual(*ep, network.EndpointSettings{}) {
			continue
		}
		all[a.Target] = ep
	}
	if own && foreign {
		return nil, errors.New("conflicting options: cannot attach both user-defined and non-user-defined network-modes")
	}
	return all, nil
}

func userDefined(name string) bool { return container.NetworkMode(name).IsUserDefined() }

func (o *flags) mergeInto(a *opt.Attachment) error {
	for _, c := range []struct {
		both bool
		flag string
		what string
	}{
		{len(a.Aliases) > 0 && len(o.aliases.Values()) > 0, "--network-alias", "alias"},
		{len(a.Links) > 0 && len(o.links.Values()) > 0, "--link", "links"},
		{a.IPv4 != "" && o.ip != "", "--ip", "IPv4 address"},
		{a.IPv6 != "" && o.ip6 != "", "--ip6", "IPv6 address"},
		{a.MAC != "" && o.mac != "", "--mac-address", "MAC address"},
		{len(a.LinkLocalIPs) > 0 && len(o.linkLocalIPs.Values()) > 0, "--link-local-ip", "link-local IP addresses"},
	} {
		if c.both {
			return fmt.Errorf("conflicting options: cannot specify both %s and per-network %s", c.flag, c.what)
		}
	}
	if l := o.aliases.Values(); len(l) > 0 {
		a.Aliases = l
	}
	// On the default bridge a link is the container's, not the endpoint's.
	if l := o.links.Values(); len(l) > 0 && userDefined(a.Target) {
		a.Links = l
	}
	if o.ip != "" {
		a.IPv4 = o.ip
	}
	if o.ip6 != "" {
		a.IPv6 = o.ip6
	}
	if o.mac != "" {
		a.MAC = o.mac
	}
	if l := o.linkLocalIPs.Values(); len(l) > 0 {
		a.LinkLocalIPs = l
	}
	return nil
}

func endpoint(a opt.Attachment) (*network.EndpointSettings, error) {
	if strings.TrimSpace(a.Target) == "" {
		return nil, errors.New("no name set for network")
	}
	if !userDefined(a.Target) {
		if len(a.Aliases) > 0 {
			return nil, errors.New("network-scoped aliases are only supported for user-defined networks")
		}
		if len(a.Links) > 0 {
			return nil, errors.New("links are only supported for user-defined networks")
		}
	}
	ep := &network.EndpointSettings{GwPriority: a.GwPriority, Links: a.Links}
	if len(a.Aliases) > 0 {
		ep.Aliases = a.Aliases
	}
	if len(a.DriverOpts) > 0 {
		ep.DriverOpts = a.DriverOpts
	}
	if a.IPv4 != "" || a.IPv6 != "" || len(a.LinkLocalIPs) > 0 {
		c := &network.EndpointIPAMConfig{}
		var err error
		if a.IPv4 != "" {
			if c.IPv4Address, err = netip.ParseAddr(a.IPv4); err != nil {
				return nil, fmt.Errorf("invalid IPv4 address: %s", a.IPv4)
			}
		}
		if a.IPv6 != "" {
			if c.IPv6Address, err = netip.ParseAddr(a.IPv6); err != nil {
				return nil, fmt.Errorf("invalid IPv6 address: %s", a.IPv6)
			}
		}
		if len(a.LinkLocalIPs) > 0 {
			if c.LinkLocalIPs, err = addrs(a.LinkLocalIPs); err != nil {
				return nil, err
			}
		}
		ep.IPAMConfig = c
	}
	if a.MAC != "" {
		m, err := net.ParseMAC(strings.TrimSpace(a.MAC))
		if err != nil {
			return nil, fmt.Errorf("%s is not a valid mac address", a.MAC)
		}
		ep.MacAddress = network.HardwareAddr(m)
	}
	return ep, nil
}
