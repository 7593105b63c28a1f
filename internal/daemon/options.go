package daemon

import (
	"slices"

	"github.com/spf13/pflag"
)

// option is one setting: a flag, a key of the file, or both.
type option struct {
	flag string // "" for keys that have no flag
	key  string // "" for flags that cannot stand in the file
	// target is what a value in the file is decoded into.
	target any
	// idle is set for an option without effect that an operator should know of.
	idle bool
	said bool // in the file
}

// table collects options while it declares their flags.
type table struct {
	flags *pflag.FlagSet
	list  []*option
}

func (t *table) add(flag, key string, target any) {
	t.list = append(t.list, &option{flag: flag, key: key, target: target})
}

func (t *table) bool(p *bool, flag, short, key, usage string) {
	t.flags.BoolVarP(p, flag, short, *p, usage)
	t.add(flag, key, p)
}

func (t *table) string(p *string, flag, short, key, usage string) {
	t.flags.StringVarP(p, flag, short, *p, usage)
	t.add(flag, key, p)
}

func (t *table) int(p *int, flag, key, usage string) {
	t.flags.IntVar(p, flag, *p, usage)
	t.add(flag, key, p)
}

// strings is a list: the flag may be given several times.
func (t *table) strings(p *[]string, flag, short, key, usage string) {
	t.flags.StringArrayVarP(p, flag, short, *p, usage)
	t.add(flag, key, p)
}

func (t *table) value(v pflag.Value, flag, key, usage string) {
	t.flags.Var(v, flag, usage)
	t.add(flag, key, v)
}

// without is an option of dockerd that is accepted and has no effect. With ok
// nothing is said about it: what it asks for is how it always is.
func (t *table) without(kind, flag, key string, ok bool) {
	v := unused(kind)
	if flag != "" {
		f := t.flags.VarPF(v, flag, "", "Accepted, without effect")
		if kind == "bool" {
			f.NoOptDefVal = "true"
		}
	}
	t.list = append(t.list, &option{flag: flag, key: key, target: v, idle: !ok})
}

// pending are the options that are read and checked, and that no part of the
// engine uses so far.
func pending() []string {
	return []string{}
}

// declare declares every option of dockerd, and ours, with c for defaults and
// for what is said.
func declare(c *Config, flags *pflag.FlagSet) []*option {
	t := &table{flags: flags}

	flags.StringVar(&c.File, "config-file", c.File, "Daemon configuration file")
	flags.BoolVar(&c.Validate, "validate", false, "Validate daemon configuration and exit")
	flags.BoolVarP(&c.ShowVersion, "version", "v", false, "Print version information and quit")

	t.strings(&c.Hosts, "host", "H", "hosts", "Daemon socket(s) to connect to")
	t.add("", "min-api-version", &c.MinVersion)
	t.string(&c.Group, "group", "G", "group", "Group for the unix socket")
	t.bool(&c.TLS, "tls", "", "tls", "Use TLS; implied by --tlsverify")
	t.bool(&c.TLSVerify, "tlsverify", "", "tlsverify", "Use TLS and verify the remote")
	t.string(&c.TLSCACert, "tlscacert", "", "tlscacert", "Trust certs signed only by this CA")
	t.string(&c.TLSCert, "tlscert", "", "tlscert", "Path to TLS certificate file")
	t.string(&c.TLSKey, "tlskey", "", "tlskey", "Path to TLS key file")
	t.strings(&c.Authorization, "authorization-plugin", "", "authorization-plugins", "Authorization plugins to load")
	t.string(&c.Metrics, "metrics-addr", "", "metrics-addr", "Address and port to serve the metrics API on")

	t.string(&c.DataRoot, "data-root", "", "data-root", "Root directory of persistent state")
	t.string(&c.ExecRoot, "exec-root", "", "exec-root", "Root directory for execution state files")
	t.string(&c.PIDFile, "pidfile", "p", "pidfile", "Path to use for daemon PID file")
	t.string(&c.Supervisor, "supervisor", "", "supervisor", "Path to the supervisor (default: beside laded)")

	t.bool(&c.Debug, "debug", "D", "debug", "Enable debug mode")
	t.string(&c.LogLevel, "log-level", "l", "log-level", `Set the logging level ("debug"|"info"|"warn"|"error"|"fatal")`)
	t.string(&c.LogFormat, "log-format", "", "log-format", `Set the logging format ("text"|"json")`)

	t.string(&c.Bridge.Bridge, "bridge", "b", "bridge", "Attach containers to a network bridge")
	t.string(&c.BIP, "bip", "", "bip", "IPv4 address for the default bridge")
	t.string(&c.BIP6, "bip6", "", "bip6", "IPv6 address for the default bridge")
	t.string(&c.FixedCIDR, "fixed-cidr", "", "fixed-cidr", "IPv4 subnet for the default bridge network")
	t.string(&c.FixedCIDR6, "fixed-cidr-v6", "", "fixed-cidr-v6", "IPv6 subnet for the default bridge network")
	t.string(&c.DefaultGateway, "default-gateway", "", "default-gateway", "Default gateway IPv4 address for the default bridge network")
	t.string(&c.DefaultGateway6, "default-gateway-v6", "", "default-gateway-v6", "Default gateway IPv6 address for the default bridge network")
	t.string(&c.HostIP, "ip", "", "ip", "Host IP for port publishing from the default bridge network")
	t.int(&c.MTU, "mtu", "mtu", `Set the MTU for the default "bridge" network`)
	t.bool(&c.ICC, "icc", "", "icc", "Enable inter-container communication for the default bridge network")
	t.bool(&c.IPForward, "ip-forward", "", "ip-forward", "Enable IP forwarding in system configuration")
	t.bool(&c.IPMasq, "ip-masq", "", "ip-masq", "Enable IP masquerading for the default bridge network")
	t.bool(&c.IPTables, "iptables", "", "iptables", "Enable addition of packet filter rules")
	t.bool(&c.IP6Tables, "ip6tables", "", "ip6tables", "Enable addition of packet filter rules for IPv6")
	t.bool(&c.UserlandProxy, "userland-proxy", "", "userland-proxy", "Let lade-gate serve published ports that rules do not lead into containers")
	t.bool(&c.IPv6, "ipv6", "", "ipv6", "Enable IPv6 networking for the default bridge network")
	t.value(pools{&c.AddressPools}, "default-address-pool", "default-address-pools", "Default address pools for node specific local networks")
	t.strings(&c.DNS, "dns", "", "dns", "DNS server to use")
	t.strings(&c.DNSSearch, "dns-search", "", "dns-search", "DNS search domains to use")
	t.strings(&c.DNSOptions, "dns-opt", "", "dns-opts", "DNS options to use")
	t.value(&c.Limits.In, "net-rate-in", "net-rate-in", "Default limit of what a container on the default bridge receives (bits per second, e.g. 100mbit)")
	t.value(&c.Limits.Out, "net-rate-out", "net-rate-out", "Default limit of what a container on the default bridge sends (bits per second, e.g. 10mbit)")
	t.value((*Bytes)(&c.Limits.Burst), "net-burst", "net-burst", "Default burst of network limits (0: as the rate needs)")
	t.string(&c.PublishPolicy, "publish-policy", "", "publish-policy", `How ports are published that say nothing else ("dnat"|"gate")`)
	t.bool(&c.DirectRouting, "allow-direct-routing", "", "allow-direct-routing", "Allow remote access to published ports on container IP addresses")
	t.string(&c.AcceptMark, "bridge-accept-fwmark", "", "bridge-accept-fwmark", "In bridge networks, accept packets with this firewall mark/mask")
	t.string(&c.Firewall, "firewall-backend", "", "firewall-backend", `Firewall backend to use ("nftables")`)
	t.strings(&c.HostGatewayIPs, "host-gateway-ip", "", "host-gateway-ips", "IP addresses that the special 'host-gateway' string in --add-host resolves to")

	t.add("", "host-gateway-ip", oneOf{&c.HostGatewayIPs})
	t.value(networkOptions{&c.NetworkOptions}, "default-network-opt", "default-network-opts", "Default network options")

	t.strings(&c.Mirrors, "registry-mirror", "", "registry-mirrors", "Preferred registry mirror")
	t.strings(&c.Insecure, "insecure-registry", "", "insecure-registries", "Enable insecure registry communication")
	t.add("", "registries", hosts{&c.Named})
	t.int(&c.MaxDownloads, "max-concurrent-downloads", "max-concurrent-downloads", "Set the max concurrent downloads")
	t.int(&c.MaxUploads, "max-concurrent-uploads", "max-concurrent-uploads", "Set the max concurrent uploads")
	t.int(&c.MaxTransfers, "max-transfers", "max-transfers", "Set the max concurrent downloads and uploads of all pulls and pushes (0: four times that of one)")
	t.int(&c.MaxDownloadAttempts, "max-download-attempts", "max-download-attempts", "Set the max download attempts for each pull")
	t.value(&c.MaxLayer, "max-layer-size", "max-layer-size", "Set how long the tar of an image's layer may be once it is decompressed (0: as long as the disk takes)")
	t.string(&c.HTTPProxy, "http-proxy", "", "http-proxy", "HTTP proxy URL to use for outgoing traffic")
	t.string(&c.HTTPSProxy, "https-proxy", "", "https-proxy", "HTTPS proxy URL to use for outgoing traffic")
	t.string(&c.NoProxy, "no-proxy", "", "no-proxy", "Comma-separated list of hosts or IP addresses for which the proxy is skipped")

	t.string(&c.LogDriver, "log-driver", "", "log-driver", "Default driver for container logs")
	t.value(pairs{&c.LogOptions}, "log-opt", "log-opts", "Default log driver options for containers")
	t.string(&c.CgroupParent, "cgroup-parent", "", "cgroup-parent", "Set parent cgroup for all containers")
	t.string(&c.CgroupNamespace, "default-cgroupns-mode", "", "default-cgroupns-mode", `Default mode for containers cgroup namespace ("host" | "private")`)
	t.string(&c.IPCMode, "default-ipc-mode", "", "default-ipc-mode", `Default mode for containers ipc ("shareable" | "private")`)
	t.string(&c.DefaultRuntime, "default-runtime", "", "default-runtime", "Default OCI runtime for containers")
	t.add("", "disk", diskPolicy{&c.Disk})
	t.value(runtimes{&c.Runtimes}, "add-runtime", "runtimes", "Register an additional OCI compatible runtime")
	t.value(ulimits{&c.Ulimits}, "default-ulimit", "default-ulimits", "Default ulimits for containers")
	t.value(&c.ShmSize, "default-shm-size", "default-shm-size", "Default shm size for containers")
	t.int(&c.StopTimeout, "default-stop-timeout", "default-stop-timeout", "Set the default container stop timeout in seconds (0 to terminate immediately)")
	t.bool(&c.Init, "init", "", "init", "Run an init in the container to forward signals and reap processes")
	t.string(&c.InitPath, "init-path", "", "init-path", "Path to the init binary")
	t.string(&c.UsernsRemap, "userns-remap", "", "userns-remap", "User/Group setting for user namespaces")
	t.bool(&c.SELinux, "selinux-enabled", "", "selinux-enabled", "Enable selinux support")
	t.bool(&c.NoNewPrivileges, "no-new-privileges", "", "no-new-privileges", "Set no-new-privileges by default for new containers")
	t.string(&c.SeccompProfile, "seccomp-profile", "", "seccomp-profile", `Path to seccomp profile. Set to "unconfined" to disable the default seccomp profile`)
	t.string(&c.AppArmorProfile, "apparmor-profile", "", "apparmor-profile", `AppArmor profile of containers that name none ("unconfined" for none)`)
	t.bool(&c.Rootless, "rootless", "", "", "Refused: the daemon needs root")
	t.strings(&c.ExecOptions, "exec-opt", "", "exec-opts", "Runtime execution options")
	t.strings(&c.CDIDirs, "cdi-spec-dir", "", "cdi-spec-dirs", "CDI specification directories to use")
	t.strings(&c.Labels, "label", "", "labels", "Set key=value labels to the daemon")
	t.value(switches{&c.Features}, "feature", "features", "Enable feature in the daemon")
	t.bool(&c.Experimental, "experimental", "", "experimental", "Tell clients that experimental features may be asked for")
	t.int(&c.OOMScoreAdjust, "oom-score-adjust", "oom-score-adjust", "Set the oom_score_adj for the daemon (-1000 to 1000)")
	t.value(seconds{&c.ShutdownTimeout}, "shutdown-timeout", "shutdown-timeout", "Set the default shutdown timeout")

	t.string(&c.StorageDriver, "storage-driver", "s", "storage-driver", "Storage driver to use")
	t.strings(&c.StorageOptions, "storage-opt", "", "storage-opts", "Storage driver options")

	// How it always is: containers survive the daemon, log lines are plain, and the
	// host's policy of forwarding is the administrator's.
	t.without("bool", "live-restore", "live-restore", true)
	t.without("bool", "ip-forward-no-drop", "ip-forward-no-drop", true)
	t.without("string", "userland-proxy-path", "userland-proxy-path", true)
	t.without("bool", "raw-logs", "raw-logs", true)
	// What dockerd has for its own parts.
	t.without("string", "containerd", "containerd", true)
	t.without("string", "containerd-namespace", "containerd-namespace", true)
	t.without("string", "containerd-plugins-namespace", "containerd-plugins-namespace", true)
	t.without("bool", "cri-containerd", "cri-containerd", true)
	t.without("int", "network-control-plane-mtu", "network-control-plane-mtu", true)

	t.without("list", "allow-nondistributable-artifacts", "allow-nondistributable-artifacts", true)
	t.without("map", "", "builder", false)
	t.without("int", "cpu-rt-period", "cpu-rt-period", false)
	t.without("int", "cpu-rt-runtime", "cpu-rt-runtime", false)
	t.without("list", "node-generic-resource", "node-generic-resources", false)
	t.without("nri", "nri-opts", "nri-opts", false)
	t.without("string", "swarm-default-advertise-addr", "swarm-default-advertise-addr", true)
	for _, o := range t.list {
		o.idle = o.idle || slices.Contains(pending(), o.flag)
	}
	return t.list
}
