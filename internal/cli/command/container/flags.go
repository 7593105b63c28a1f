package container

import (
	"time"

	"github.com/spf13/pflag"

	"lade/internal/cli/opt"
)

// flags are what run and create say about the new container.
type flags struct {
	set   *pflag.FlagSet
	rates *rates
	kept  *secrets

	attach, volumes, tmpfs, links, aliases, linkLocalIPs        *opt.List
	env, envFile, labels, labelFile, deviceRules, devices       *opt.List
	publish, expose, dns, dnsSearch, dnsOptions, extraHosts     *opt.List
	volumesFrom, capAdd, capDrop, groupAdd, security, storage   *opt.List
	logOpts                                                     *opt.List
	sysctls, annotations                                        *opt.Map
	mounts                                                      opt.Mounts
	networks                                                    opt.Networks
	gpus                                                        opt.GPUs
	ulimits                                                     opt.Ulimits
	weights                                                     *opt.Weight
	readBps, writeBps, readIOps, writeIOps                      *opt.Rate
	memory, reservation, kernelMemory, ioMaxBandwidth, shmSize  opt.Bytes
	memorySwap                                                  opt.SwapBytes
	cpus                                                        opt.CPUs
	privileged, publishAll, stdin, tty, oomKillDisable          bool
	readOnly, noHealth, remove, init                            bool
	pid, uts, userns, cgroupns, ipc, cidFile, entrypoint        string
	hostname, domainname, user, workdir, cpusetCpus, cpusetMems string
	mac, ip, ip6, restart, logDriver, cgroupParent              string
	volumeDriver, stopSignal, isolation, healthCmd, runtime     string
	oomScore, stopTimeout, healthRetries                        int
	cpuCount, cpuShares, cpuPercent, cpuPeriod, cpuQuota        int64
	cpuRTPeriod, cpuRTRuntime, swappiness, pidsLimit            int64
	blkioWeight                                                 uint16
	ioMaxIOps                                                   uint64
	healthInterval, healthTimeout                               time.Duration
	healthStartPeriod, healthStartInterval                      time.Duration
	onUnhealthy                                                 *onUnhealthy
}

func newFlags(f *pflag.FlagSet) *flags {
	o := &flags{set: f, ulimits: opt.Ulimits{}}
	// Flags end at the image: what follows belongs to the container's command.
	f.SetInterspersed(false)
	// -h is the host name here.
	f.Bool("help", false, "Print usage")
	o.general(f)
	o.securityFlags(f)
	o.networkFlags(f)
	o.storageFlags(f)
	o.health(f)
	o.resources(f)
	o.rates = newRates(f)
	o.kept = newSecrets(f)
	return o
}

// list declares a flag that may be given several times.
func list(f *pflag.FlagSet, name, short, usage string, check func(string) (string, error)) *opt.List {
	l := opt.NewList(check)
	f.VarP(l, name, short, usage)
	return l
}

func (o *flags) general(f *pflag.FlagSet) {
	o.attach = list(f, "attach", "a", "Attach to STDIN, STDOUT or STDERR", opt.Attach)
	o.deviceRules = list(f, "device-cgroup-rule", "", "Add a rule to the cgroup allowed devices list", opt.DeviceRule)
	o.devices = list(f, "device", "", "Add a host device to the container", nil)
	f.Var(&o.gpus, "gpus", "GPU devices to add to the container ('all' to pass all GPUs)")
	o.env = list(f, "env", "e", "Set environment variables", opt.Env)
	o.envFile = list(f, "env-file", "", "Read in a file of environment variables", nil)
	f.StringVar(&o.entrypoint, "entrypoint", "", "Overwrite the default ENTRYPOINT of the image")
	o.groupAdd = list(f, "group-add", "", "Add additional groups to join", nil)
	f.StringVarP(&o.hostname, "hostname", "h", "", "Container host name")
	f.StringVar(&o.domainname, "domainname", "", "Container NIS domain name")
	f.BoolVarP(&o.stdin, "interactive", "i", false, "Keep STDIN open even if not attached")
	o.labels = list(f, "label", "l", "Set meta data on a container", opt.Label)
	o.labelFile = list(f, "label-file", "", "Read in a line delimited file of labels", nil)
	f.BoolVar(&o.readOnly, "read-only", false, "Mount the container's root filesystem as read only")
	f.StringVar(&o.restart, "restart", "no", "Restart policy to apply when a container exits")
	f.StringVar(&o.stopSignal, "stop-signal", "", "Signal to stop the container")
	f.IntVar(&o.stopTimeout, "stop-timeout", 0, "Timeout (in seconds) to stop a container")
	o.sysctls = opt.NewMap(opt.Sysctl)
	f.Var(o.sysctls, "sysctl", "Sysctl options")
	f.BoolVarP(&o.tty, "tty", "t", false, "Allocate a pseudo-TTY")
	f.Var(o.ulimits, "ulimit", "Ulimit options")
	f.StringVarP(&o.user, "user", "u", "", "Username or UID (format: <name|uid>[:<group|gid>])")
	f.StringVarP(&o.workdir, "workdir", "w", "", "Working directory inside the container")
	f.BoolVar(&o.remove, "rm", false, "Automatically remove the container and its associated anonymous volumes when it exits")
	f.StringVar(&o.cidFile, "cidfile", "", "Write the container ID to the file")
	f.BoolVar(&o.init, "init", false, "Run an init inside the container that forwards signals and reaps processes")
	o.annotations = opt.NewMap(nil)
	f.Var(o.annotations, "annotation", "Add an annotation to the container (passed through to the OCI runtime)")
	cgroupConfFlag(f, o.annotations)
	timeOffsetFlag(f, o.annotations)
}

func (o *flags) securityFlags(f *pflag.FlagSet) {
	o.capAdd = list(f, "cap-add", "", "Add Linux capabilities", nil)
	o.capDrop = list(f, "cap-drop", "", "Drop Linux capabilities", nil)
	f.BoolVar(&o.privileged, "privileged", false, "Give extended privileges to this container")
	o.security = list(f, "security-opt", "", "Security Options", nil)
	f.StringVar(&o.userns, "userns", "", "User namespace to use")
	f.StringVar(&o.cgroupns, "cgroupns", "", `Cgroup namespace to use (host|private)
'host':    Run the container in the Docker host's cgroup namespace
'private': Run the container in its own private cgroup namespace
'':        Use the cgroup namespace as configured by the
           default-cgroupns-mode option on the daemon (default)`)
	f.StringVar(&o.cgroupParent, "cgroup-parent", "", "Optional parent cgroup for the container")
	f.StringVar(&o.ipc, "ipc", "", "IPC mode to use")
	f.StringVar(&o.isolation, "isolation", "", "Container isolation technology")
	f.StringVar(&o.pid, "pid", "", "PID namespace to use")
	f.Var(&o.shmSize, "shm-size", "Size of /dev/shm")
	f.StringVar(&o.uts, "uts", "", "UTS namespace to use")
	f.StringVar(&o.runtime, "runtime", "", "Runtime to use for this container")
}

func (o *flags) networkFlags(f *pflag.FlagSet) {
	o.extraHosts = list(f, "add-host", "", "Add a custom host-to-IP mapping (host:ip)", opt.ExtraHost)
	o.dns = list(f, "dns", "", "Set custom DNS servers", opt.IP)
	o.dnsOptions = list(f, "dns-option", "", "Set DNS options", nil)
	hidden(f, o.dnsOptions, "dns-opt", "Set DNS options")
	o.dnsSearch = list(f, "dns-search", "", "Set custom DNS search domains", opt.DNSSearch)
	o.expose = list(f, "expose", "", "Expose a port or a range of ports", nil)
	f.StringVar(&o.ip, "ip", "", "IPv4 address (e.g., 172.30.100.104)")
	f.StringVar(&o.ip6, "ip6", "", "IPv6 address (e.g., 2001:db8::33)")
	o.links = list(f, "link", "", "Add link to another container", opt.Link)
	o.linkLocalIPs = list(f, "link-local-ip", "", "Container IPv4/IPv6 link-local addresses", nil)
	f.StringVar(&o.mac, "mac-address", "", "Container MAC address (e.g., 92:d0:c6:0a:29:33)")
	o.publish = list(f, "publish", "p", "Publish a container's port(s) to the host", nil)
	f.BoolVarP(&o.publishAll, "publish-all", "P", false, "Publish all exposed ports to random ports")
	f.Var(&o.networks, "network", "Connect a container to a network")
	hidden(f, &o.networks, "net", "Connect a container to a network")
	o.aliases = list(f, "network-alias", "", "Add network-scoped alias for the container", nil)
	hidden(f, o.aliases, "net-alias", "Add network-scoped alias for the container")
}

// hidden declares another name of a flag that help does not show.
func hidden(f *pflag.FlagSet, v pflag.Value, name, usage string) {
	f.Var(v, name, usage)
	f.Lookup(name).Hidden = true
}

func (o *flags) storageFlags(f *pflag.FlagSet) {
	f.StringVar(&o.logDriver, "log-driver", "", "Logging driver for the container")
	f.StringVar(&o.volumeDriver, "volume-driver", "", "Optional volume driver for the container")
	o.logOpts = list(f, "log-opt", "", "Log driver options", nil)
	o.storage = list(f, "storage-opt", "", "Storage driver options for the container", nil)
	o.tmpfs = list(f, "tmpfs", "", "Mount a tmpfs directory", nil)
	o.volumesFrom = list(f, "volumes-from", "", "Mount volumes from the specified container(s)", nil)
	o.volumes = list(f, "volume", "v", "Bind mount a volume", nil)
	f.Var(&o.mounts, "mount", "Attach a filesystem mount to the container")
}

func (o *flags) health(f *pflag.FlagSet) {
	f.StringVar(&o.healthCmd, "health-cmd", "", "Command to run to check health")
	f.Var((*opt.Duration)(&o.healthInterval), "health-interval", "Time between running the check (ms|s|m|h) (default 0s)")
	f.IntVar(&o.healthRetries, "health-retries", 0, "Consecutive failures needed to report unhealthy")
	f.Var((*opt.Duration)(&o.healthTimeout), "health-timeout", "Maximum time to allow one check to run (ms|s|m|h) (default 0s)")
	f.Var((*opt.Duration)(&o.healthStartPeriod), "health-start-period", "Start period for the container to initialize before starting health-retries countdown (ms|s|m|h) (default 0s)")
	f.Var((*opt.Duration)(&o.healthStartInterval), "health-start-interval", "Time between running the check during the start period (ms|s|m|h) (default 0s)")
	o.onUnhealthy = newOnUnhealthy(f)
	f.BoolVar(&o.noHealth, "no-healthcheck", false, "Disable any container-specified HEALTHCHECK")
}

func (o *flags) resources(f *pflag.FlagSet) {
	f.Uint16Var(&o.blkioWeight, "blkio-weight", 0, "Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)")
	o.weights = opt.NewWeight()
	f.Var(o.weights, "blkio-weight-device", "Block IO weight (relative device weight)")
	f.StringVar(&o.cpusetCpus, "cpuset-cpus", "", "CPUs in which to allow execution (0-3, 0,1)")
	f.StringVar(&o.cpusetMems, "cpuset-mems", "", "MEMs in which to allow execution (0-3, 0,1)")
	f.Int64Var(&o.cpuCount, "cpu-count", 0, "CPU count (Windows only)")
	f.Int64Var(&o.cpuPercent, "cpu-percent", 0, "CPU percent (Windows only)")
	f.Int64Var(&o.cpuPeriod, "cpu-period", 0, "Limit CPU CFS (Completely Fair Scheduler) period")
	f.Int64Var(&o.cpuQuota, "cpu-quota", 0, "Limit CPU CFS (Completely Fair Scheduler) quota")
	f.Int64Var(&o.cpuRTPeriod, "cpu-rt-period", 0, "Limit CPU real-time period in microseconds")
	f.Int64Var(&o.cpuRTRuntime, "cpu-rt-runtime", 0, "Limit CPU real-time runtime in microseconds")
	f.Int64VarP(&o.cpuShares, "cpu-shares", "c", 0, "CPU shares (relative weight)")
	f.Var(&o.cpus, "cpus", "Number of CPUs")
	rate := func(name, usage string, bytes bool) *opt.Rate {
		r := opt.NewRate(bytes)
		f.Var(r, name, usage)
		return r
	}
	o.readBps = rate("device-read-bps", "Limit read rate (bytes per second) from a device", true)
	o.readIOps = rate("device-read-iops", "Limit read rate (IO per second) from a device", false)
	o.writeBps = rate("device-write-bps", "Limit write rate (bytes per second) to a device", true)
	o.writeIOps = rate("device-write-iops", "Limit write rate (IO per second) to a device", false)
	f.Var(&o.ioMaxBandwidth, "io-maxbandwidth", "Maximum IO bandwidth limit for the system drive (Windows only)")
	f.Uint64Var(&o.ioMaxIOps, "io-maxiops", 0, "Maximum IOps limit for the system drive (Windows only)")
	f.Var(&o.kernelMemory, "kernel-memory", "Kernel memory limit")
	f.VarP(&o.memory, "memory", "m", "Memory limit")
	f.Var(&o.reservation, "memory-reservation", "Memory soft limit")
	f.Var(&o.memorySwap, "memory-swap", "Swap limit equal to memory plus swap: '-1' to enable unlimited swap")
	f.Int64Var(&o.swappiness, "memory-swappiness", -1, "Tune container memory swappiness (0 to 100)")
	f.BoolVar(&o.oomKillDisable, "oom-kill-disable", false, "Disable OOM Killer")
	f.IntVar(&o.oomScore, "oom-score-adj", 0, "Tune host's OOM preferences (-1000 to 1000)")
	f.Int64Var(&o.pidsLimit, "pids-limit", 0, "Tune container pids limit (set -1 for unlimited)")
}
