package engine

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/moby/moby/api/types/build"
	apicontainer "github.com/moby/moby/api/types/container"
	apiimage "github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/swarm"
	"github.com/moby/moby/api/types/system"
	apivolume "github.com/moby/moby/api/types/volume"
	"golang.org/x/sys/unix"

	"lade/internal/engine/container"
	"lade/internal/errdefs"
	eventlog "lade/internal/events"
)

// The API versions that are served.
const (
	APIVersion    = "1.55"
	MinAPIVersion = "1.24"
)

// SystemInfo describes the engine and the machine.
func (e *Engine) SystemInfo(_ context.Context) (*system.Info, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	name, version := distribution()
	i := &system.Info{
		ID: e.id, Images: len(e.Images.List()), Driver: e.Snapshots.Name(), DriverStatus: e.Snapshots.Status(),
		Plugins:     system.PluginsInfo{Volume: []string{"local"}, Network: []string{"bridge", "host", "null"}, Log: []string{"json-file", "none"}},
		MemoryLimit: e.Facts.Controllers["memory"], SwapLimit: e.Facts.Swap, CPUCfsPeriod: e.Facts.Controllers["cpu"], CPUCfsQuota: e.Facts.Controllers["cpu"],
		CPUShares: e.Facts.Controllers["cpu"], CPUSet: e.Facts.Controllers["cpuset"], PidsLimit: e.Facts.Controllers["pids"],
		OomKillDisable: e.Facts.CgroupVersion == 1, IPv4Forwarding: sysctl("net/ipv4/ip_forward") == "1", NFd: openFiles(), NGoroutines: runtime.NumGoroutine(),
		SystemTime: time.Now().Format(time.RFC3339Nano), LoggingDriver: e.Defaults.LogDriver, CgroupDriver: "cgroupfs", CgroupVersion: strconv.Itoa(e.Facts.CgroupVersion),
		KernelVersion: e.Facts.Kernel, OperatingSystem: name, OSVersion: version, OSType: "linux", Architecture: machine(),
		IndexServerAddress: "https://index.docker.io/v1/", RegistryConfig: e.Registry.ServiceConfig(), NCPU: e.Facts.CPUs, MemTotal: memTotal(),
		DockerRootDir: e.Root, HTTPProxy: os.Getenv("HTTP_PROXY"), HTTPSProxy: os.Getenv("HTTPS_PROXY"), NoProxy: os.Getenv("NO_PROXY"),
		Name: host, Labels: e.Labels, ServerVersion: e.Build.Version, DefaultRuntime: DefaultRuntime,
		Runtimes: map[string]system.RuntimeWithStatus{DefaultRuntime: {Runtime: system.Runtime{Path: "lade-runtime"}}},
		Swarm:    swarm.Info{LocalNodeState: swarm.LocalNodeStateInactive}, LiveRestoreEnabled: true, InitBinary: "lade-init",
		FirewallBackend: &system.FirewallInfo{Driver: "nftables"}, CDISpecDirs: []string{},
	}
	if i.Labels == nil {
		i.Labels = []string{}
	}
	if e.Facts.Seccomp {
		i.SecurityOptions = append(i.SecurityOptions, "name=seccomp,profile=builtin")
	}
	i.SecurityOptions = append(i.SecurityOptions, "name=cgroupns")
	for _, a := range e.containers.all() {
		i.Containers++
		switch a.View().State {
		case container.Running, container.Restarting:
			i.ContainersRunning++
		case container.Paused:
			i.ContainersPaused++
		default:
			i.ContainersStopped++
		}
	}
	for _, w := range []struct {
		have bool
		text string
	}{
		{i.MemoryLimit, "WARNING: No memory limit support"}, {i.SwapLimit, "WARNING: No swap limit support"},
		{i.CPUShares, "WARNING: No cpu shares support"}, {i.CPUSet, "WARNING: No cpuset support"}, {i.PidsLimit, "WARNING: No pids limit support"},
		{i.IPv4Forwarding, "WARNING: IPv4 forwarding is disabled"},
	} {
		if !w.have {
			i.Warnings = append(i.Warnings, w.text)
		}
	}
	return i, nil
}

// SystemVersion names the engine and its parts.
func (e *Engine) SystemVersion(_ context.Context) (system.VersionResponse, error) {
	v := system.VersionResponse{
		Platform: system.PlatformInfo{Name: "lade"}, Version: e.Build.Version, APIVersion: APIVersion, MinAPIVersion: MinAPIVersion,
		Os: runtime.GOOS, Arch: runtime.GOARCH, GitCommit: e.Build.Commit, GoVersion: runtime.Version(), KernelVersion: e.Facts.Kernel,
	}
	if !e.Build.Time.IsZero() {
		v.BuildTime = e.Build.Time.Format(time.RFC3339Nano)
	}
	v.Components = []system.ComponentVersion{{Name: "Engine", Version: v.Version, Details: map[string]string{
		"ApiVersion": v.APIVersion, "Arch": v.Arch, "BuildTime": v.BuildTime, "Experimental": "false", "GitCommit": v.GitCommit,
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

// SystemDiskUsage tells what takes how much space, and what prune would free.
func (e *Engine) SystemDiskUsage(ctx context.Context, o DiskUsageOptions) (*system.DiskUsage, error) {
	out := &system.DiskUsage{}
	if !o.Containers && !o.Images && !o.Volumes && !o.BuildCache {
		o.Containers, o.Images, o.Volumes, o.BuildCache = true, true, true, true
	}
	if o.Containers {
		u := &apicontainer.DiskUsage{}
		for _, a := range e.containers.all() {
			r := a.View()
			s := e.summary(r)
			rw, root, err := e.sizes(ctx, r)
			if errdefs.KindOf(err) == errdefs.NotFound {
				continue
			}
			if err != nil {
				return nil, err
			}
			s.SizeRw, s.SizeRootFs = rw, root
			u.TotalCount++
			u.TotalSize += rw
			if r.State.Alive() {
				u.ActiveCount++
			} else {
				u.Reclaimable += rw
			}
			u.Items = append(u.Items, s)
		}
		out.ContainerUsage = u
	}
	if o.Images {
		out.ImageUsage = e.imageUsage()
	}
	if o.Volumes {
		u := &apivolume.DiskUsage{}
		for _, v := range e.volumes.List() {
			size, err := treeSize(v.Mountpoint)
			if err != nil {
				return nil, err
			}
			users := len(e.volumes.Users(v.Name))
			v.UsageData = &apivolume.UsageData{RefCount: int64(users), Size: size}
			u.TotalCount++
			u.TotalSize += size
			if users > 0 {
				u.ActiveCount++
			} else {
				u.Reclaimable += size
			}
			u.Items = append(u.Items, *v)
		}
		out.VolumeUsage = u
	}
	if o.BuildCache {
		out.BuildCacheUsage = &build.DiskUsage{}
	}
	return out, nil
}

// imageUsage counts every layer once, whoever shares it.
func (e *Engine) imageUsage() *apiimage.DiskUsage {
	u := &apiimage.DiskUsage{}
	images := e.Images.List()
	sharers, active := map[string]int{}, map[string]bool{}
	for _, img := range images {
		used := len(e.users(img.ID)) > 0
		for i := range img.Layers {
			key := string(img.ChainIDs[i])
			sharers[key]++
			active[key] = active[key] || used
		}
	}
	counted := map[string]bool{}
	for _, img := range images {
		s := e.imageSummary(img, nil)
		s.Containers, s.SharedSize = int64(len(e.users(img.ID))), 0
		for i, l := range img.Layers {
			key := string(img.ChainIDs[i])
			if sharers[key] > 1 {
				s.SharedSize += l.Size
			}
			if !counted[key] {
				counted[key] = true
				u.TotalSize += l.Size
				if !active[key] {
					u.Reclaimable += l.Size
				}
			}
		}
		u.TotalCount++
		if s.Containers > 0 {
			u.ActiveCount++
		}
		u.Items = append(u.Items, s)
	}
	return u
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

// openFiles counts the engine's file descriptors.
func openFiles() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return -1
	}
	return len(entries)
}

// machine returns the hardware name of uname(2).
func machine() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return runtime.GOARCH
	}
	return unix.ByteSliceToString(u.Machine[:])
}

// memTotal returns the machine's memory in bytes; see proc_meminfo(5).
func memTotal() int64 {
	raw, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0
	}
	for s := bufio.NewScanner(bytes.NewReader(raw)); s.Scan(); {
		if f := strings.Fields(s.Text()); len(f) >= 2 && f[0] == "MemTotal:" {
			kb, err := strconv.ParseInt(f[1], 10, 64)
			if err == nil {
				return kb << 10
			}
		}
	}
	return 0
}
