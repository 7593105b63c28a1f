package engine

import (
	"context"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/api/types/system"
	"golang.org/x/sys/unix"

	"lade/internal/engine/container"
	"lade/internal/engine/logdriver"
	eventlog "lade/internal/events"
	"lade/internal/linux/proc"
	nets "lade/internal/network"
)

// The API versions that are served.
const (
	APIVersion    = "1.55"
	MinAPIVersion = "1.24"
)

// SystemInfo describes the engine and the machine.
func (e *Engine) SystemInfo(ctx context.Context) (*system.Info, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	memory, err := proc.MemTotal()
	if err != nil {
		return nil, err
	}
	name, version := distribution()
	set := e.settings()
	i := &system.Info{
		ID: e.id, Images: len(e.Images.List()), Driver: e.Snapshots.Name(), DriverStatus: append(e.Snapshots.Status(), [2]string{"Chosen Because", e.WhyStorage}, [2]string{"Disk Policy", set.Disk.String()}),
		Plugins:     system.PluginsInfo{Volume: e.volumes.Drivers(), Network: nets.Drivers(), Log: logdriver.Names()},
		MemoryLimit: e.Facts.Controllers["memory"], SwapLimit: e.Facts.Swap, CPUCfsPeriod: e.Facts.Limits.CPUQuota, CPUCfsQuota: e.Facts.Limits.CPUQuota,
		CPUShares: e.Facts.Limits.CPUShares, CPUSet: e.Facts.Controllers["cpuset"], PidsLimit: e.Facts.Controllers["pids"],
		OomKillDisable: e.Facts.Limits.OOMDisable, IPv4Forwarding: sysctl("net/ipv4/ip_forward") == "1", NFd: openFiles(), NGoroutines: runtime.NumGoroutine(),
		Debug: e.log.Enabled(ctx, slog.LevelDebug), NEventsListener: e.events.Subscribers(),
		SystemTime: time.Now().Format(time.RFC3339Nano), LoggingDriver: set.Defaults.LogDriver, CgroupDriver: e.cgroupDriver(), CgroupVersion: strconv.Itoa(e.Facts.CgroupVersion),
		KernelVersion: e.Facts.Kernel, OperatingSystem: name, OSVersion: version, OSType: "linux", Architecture: machine(),
		IndexServerAddress: "https://index.docker.io/v1/", RegistryConfig: e.Registry.Client().ServiceConfig(), NCPU: e.Facts.CPUs, MemTotal: memory,
		DockerRootDir: e.Root, HTTPProxy: proxy("HTTP_PROXY"), HTTPSProxy: proxy("HTTPS_PROXY"), NoProxy: proxy("NO_PROXY"),
		Name: host, Labels: set.Labels, ServerVersion: e.Build.Version, ExperimentalBuild: e.Experimental, Runtimes: set.Runtimes.describe(),
		Swarm: swarm.Info{LocalNodeState: swarm.LocalNodeStateInactive}, LiveRestoreEnabled: true, InitBinary: "lade-init",
		RuncCommit: system.Commit{ID: e.Build.Commit}, InitCommit: system.Commit{ID: e.Build.Commit}, // both are built with us
		FirewallBackend: &system.FirewallInfo{Driver: "nftables"}, CDISpecDirs: append([]string{}, set.Defaults.CDIDirs...),
	}
	if devices := e.devices(); devices != nil {
		for _, name := range devices.Names() {
			i.DiscoveredDevices = append(i.DiscoveredDevices, system.DeviceInfo{Source: "cdi", ID: name})
		}
	}
	if i.DefaultRuntime, _, err = set.Runtimes.Find(""); err != nil { // its program was removed
		i.DefaultRuntime = set.Runtimes.Default
	}
	if i.Labels == nil {
		i.Labels = []string{}
	}
	e.securityInfo(i)
	for _, a := range e.containers.all() {
		i.Containers++
		switch r := a.View(); {
		case r.State == container.Paused:
			i.ContainersPaused++
		case r.State.Alive() || r.Returning():
			i.ContainersRunning++
		default:
			i.ContainersStopped++
		}
	}
	for _, w := range []struct {
		have bool
		text string
	}{
		{i.MemoryLimit, "WARNING: No memory limit support"}, {i.SwapLimit, "WARNING: No swap limit support"},
		{i.OomKillDisable || e.Facts.CgroupVersion == 2, "WARNING: No oom kill disable support"},
		{i.CPUCfsQuota, "WARNING: No cpu cfs quota support"}, {i.CPUCfsPeriod, "WARNING: No cpu cfs period support"},
		{i.CPUShares, "WARNING: No cpu shares support"}, {i.CPUSet, "WARNING: No cpuset support"}, {i.PidsLimit, "WARNING: No pids limit support"},
		{i.IPv4Forwarding, "WARNING: IPv4 forwarding is disabled"},
	} {
		if !w.have {
			i.Warnings = append(i.Warnings, w.text)
		}
	}
	conflicts, err := e.Networks.Conflicts()
	if err != nil {
		e.log.Warn("cannot list the host's routes", "error", err)
	}
	i.Warnings = append(i.Warnings, conflicts...)
	return i, nil
}

// SystemVersion names the engine and its parts.
func (e *Engine) SystemVersion(_ context.Context) (system.VersionResponse, error) {
	v := system.VersionResponse{
		Platform: system.PlatformInfo{Name: "lade"}, Version: e.Build.Version, APIVersion: APIVersion, MinAPIVersion: MinAPIVersion,
		Os: runtime.GOOS, Arch: runtime.GOARCH, GitCommit: e.Build.Commit, GoVersion: runtime.Version(), KernelVersion: e.Facts.Kernel, Experimental: e.Experimental,
	}
	if !e.Build.Time.IsZero() {
		v.BuildTime = e.Build.Time.Format(time.RFC3339Nano)
	}
	v.Components = []system.ComponentVersion{{Name: "Engine", Version: v.Version, Details: map[string]string{
		"ApiVersion": v.APIVersion, "Arch": v.Arch, "BuildTime": v.BuildTime, "Experimental": strconv.FormatBool(e.Experimental), "GitCommit": v.GitCommit,
		"GoVersion": v.GoVersion, "KernelVersion": v.KernelVersion, "MinAPIVersion": v.MinAPIVersion, "Os": v.Os,
	}}}
	return v, nil
}

// Events yields what happens.
func (e *Engine) Events(ctx context.Context, o EventsOptions) (EventStream, error) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(e.ctx, cancel)
	seq, err := e.events.Subscribe(ctx, eventlog.Query{Since: o.Since, Until: o.Until, Filters: o.Filters})
	if err != nil {
		stop()
		cancel()
		return nil, err
	}
	context.AfterFunc(ctx, func() { stop() })
	return seq, nil
}

// distribution returns the name and version in os-release(5).
func distribution() (name, version string) {
	name = "Linux"
	raw, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return name, ""
	}
	for line := range strings.Lines(string(raw)) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch v = strings.Trim(v, `"'`); k {
		case "PRETTY_NAME":
			name = v
		case "VERSION_ID":
			version = v
		}
	}
	return name, version
}

// sysctl returns a value below /proc/sys, "" if there is none.
func sysctl(name string) string {
	raw, err := os.ReadFile(filepath.Join("/proc/sys", name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(raw))
}

// openFiles counts the engine's file descriptors, but the one it needs for that.
func openFiles() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return -1
	}
	return len(entries) - 1
}

// proxy returns what the environment says, as http.ProxyFromEnvironment reads
// it. Credentials are not shown.
func proxy(name string) string {
	v := os.Getenv(name)
	if v == "" {
		v = os.Getenv(strings.ToLower(name))
	}
	if u, err := url.Parse(v); err == nil && u.User != nil {
		u.User = url.UserPassword("xxxxx", "xxxxx")
		return u.String()
	}
	return v
}

// machine returns the hardware name of uname(2).
func machine() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return runtime.GOARCH
	}
	return unix.ByteSliceToString(u.Machine[:])
}
