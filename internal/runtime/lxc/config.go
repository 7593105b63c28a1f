package lxc

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/cgroup"
)

// places are the files and directories of a container that a configuration
// names.
type places struct {
	rootfs  string // where the root is
	mount   string // where LXC mounts it on its way
	log     string
	seccomp string // "": no filter
	pid     string // a pipe for the container's process number
	gate    string // a pipe on which LXC waits for a line after that
	counts  string // where the kernel counts kills for memory; "": nowhere
	kills   string // where LXC copies that before it removes the control group
	groups  string // of LXC's own processes, as spec.linux.cgroupsPath
}

// config collects the lines of a configuration.
type config struct {
	bytes.Buffer
	err error
}

// set adds a line. A value cannot have several.
func (c *config) set(key, value string) {
	if strings.ContainsAny(value, "\n\r") {
		c.fail("%s of more than one line", key)
		return
	}
	c.WriteString(key + " = " + value + "\n")
}

// fail notes what LXC cannot do.
func (c *config) fail(format string, a ...any) {
	if c.err == nil {
		c.err = errdefs.Invalidf("runtime lxc cannot do this: "+format, a...)
	}
}

// translate returns the configuration for a specification: user, namespaces
// and mounts are to be complete in it. Errors: Invalid for what LXC cannot do.
func translate(s *specs.Spec, limits []cgroup.Setting, p places) ([]byte, error) {
	c := &config{}
	c.set("lxc.rootfs.path", "dir:"+p.rootfs)
	c.set("lxc.rootfs.mount", p.mount)
	if s.Root != nil && s.Root.Readonly {
		c.set("lxc.rootfs.options", "ro")
	}
	c.set("lxc.hook.start-host", `/bin/sh -c 'echo "$LXC_PID" >"`+p.pid+`"; read line <"`+p.gate+`"'`)
	if p.counts != "" {
		c.set("lxc.hook.stop", `/bin/sh -c 'cat <"`+p.counts+`" >"`+p.kills+`"'`)
	}
	c.set("lxc.log.file", p.log)
	c.set("lxc.log.level", "INFO")
	if p.seccomp != "" {
		c.set("lxc.seccomp.profile", p.seccomp)
	}
	c.namespaces(s)
	c.process(s.Process)
	c.mounts(s, p.mount)
	c.groups(s.Linux, limits, p.groups)
	if s.Linux.Personality != nil {
		c.fail("personality %s", s.Linux.Personality.Domain)
	}
	if s.Hooks != nil {
		c.fail("hooks")
	}
	for _, key := range slices.Sorted(maps.Keys(s.Linux.Sysctl)) {
		// It writes them when /proc/sys is read-only already.
		c.fail("sysctl %s", key)
	}
	return c.Bytes(), c.err
}

// names are those of the namespaces that LXC can make and share.
var names = map[specs.LinuxNamespaceType]string{
	specs.MountNamespace: "mnt", specs.NetworkNamespace: "net", specs.PIDNamespace: "pid", specs.IPCNamespace: "ipc", specs.UTSNamespace: "uts", specs.CgroupNamespace: "cgroup",
}

func (c *config) namespaces(s *specs.Spec) {
	// Not what is to be kept: then LXC makes one of every other kind it knows.
	var made []string
	net := "none" // the host's
	for _, n := range s.Linux.Namespaces {
		if n.Type == specs.UserNamespace && n.Path != "" {
			c.user(n.Path, s.Linux)
			continue
		}
		name, ok := names[n.Type]
		switch {
		case !ok || n.Type == specs.MountNamespace && n.Path != "":
			c.fail("a namespace of type %s", n.Type)
		case n.Path != "":
			c.set("lxc.namespace.share."+name, n.Path)
		default:
			made = append(made, name)
		}
		if n.Type == specs.NetworkNamespace {
			net = "empty"
		}
	}
	c.set("lxc.namespace.clone", strings.Join(made, " "))
	c.set("lxc.net.0.type", net)
	if s.Hostname != "" {
		c.set("lxc.uts.name", s.Hostname)
	}
	if s.Domainname != "" {
		c.fail("domain name %s", s.Domainname)
	}
}

// user joins a user namespace. LXC is to know its map, too: by that it becomes the
// root of the namespace in it.
func (c *config) user(path string, l *specs.Linux) {
	c.set("lxc.namespace.share.user", path)
	add := func(kind string, lines []specs.LinuxIDMapping) {
		for _, m := range lines {
			c.set("lxc.idmap", fmt.Sprintf("%s %d %d %d", kind, m.ContainerID, m.HostID, m.Size))
		}
	}
	add("u", l.UIDMappings)
	add("g", l.GIDMappings)
}

func (c *config) process(p *specs.Process) {
	if !p.Terminal {
		c.set("lxc.console.path", "none") // standard streams are handed down
	}
	c.set("lxc.pty.max", "1024")
	c.set("lxc.tty.max", "0")
	c.set("lxc.init.cwd", p.Cwd)
	c.set("lxc.init.uid", strconv.FormatUint(uint64(p.User.UID), 10))
	c.set("lxc.init.gid", strconv.FormatUint(uint64(p.User.GID), 10))
	if len(p.User.AdditionalGids) > 0 {
		groups := make([]string, len(p.User.AdditionalGids))
		for i, g := range p.User.AdditionalGids {
			groups[i] = strconv.FormatUint(uint64(g), 10)
		}
		c.set("lxc.init.groups", strings.Join(groups, ","))
	}
	if p.User.Umask != nil {
		c.fail("a umask")
	}
	for _, kv := range p.Env {
		c.set("lxc.environment", kv)
	}
	keep := []string{"none"}
	if p.Capabilities != nil && len(p.Capabilities.Bounding) > 0 {
		keep = nil
		for _, name := range p.Capabilities.Bounding {
			keep = append(keep, strings.ToLower(strings.TrimPrefix(name, "CAP_")))
		}
		if len(p.Capabilities.Ambient) > 0 {
			c.fail("ambient capabilities")
		}
	}
	c.set("lxc.cap.keep", strings.Join(keep, " "))
	if p.NoNewPrivileges {
		c.set("lxc.no_new_privs", "1")
	}
	profile := p.ApparmorProfile
	if profile == "" {
		profile = "unconfined"
	}
	c.set("lxc.apparmor.profile", profile)
	if p.SelinuxLabel != "" {
		c.set("lxc.selinux.context", p.SelinuxLabel)
	}
	for _, l := range p.Rlimits {
		name := strings.ToLower(strings.TrimPrefix(l.Type, "RLIMIT_"))
		c.set("lxc.prlimit."+name, limit(l.Soft)+":"+limit(l.Hard))
	}
	score := 0
	if p.OOMScoreAdj != nil {
		score = *p.OOMScoreAdj
	}
	c.set("lxc.proc.oom_score_adj", strconv.Itoa(score))
}

func limit(n uint64) string {
	if n == ^uint64(0) {
		return "unlimited"
	}
	return strconv.FormatUint(n, 10)
}

// mounts translates them in order. LXC fills /dev itself.
func (c *config) mounts(s *specs.Spec, root string) {
	for _, m := range s.Mounts {
		to := path.Clean("/" + m.Destination)
		switch {
		case to == "/dev" && m.Type == "tmpfs":
			c.set("lxc.autodev", "1")
			for _, o := range m.Options {
				if size, ok := strings.CutPrefix(o, "size="); ok {
					c.set("lxc.autodev.tmpfs.size", bytesOf(size))
				}
			}
		case to == "/dev":
			c.fail("a mount on /dev")
		case to == "/dev/pts" && m.Type == "devpts": // lxc.pty.max
		case m.Type == "cgroup" || m.Type == "cgroup2":
			how := "rw"
			if slices.Contains(m.Options, "ro") {
				how = "ro"
			}
			c.set("lxc.mount.auto", "cgroup:"+how+":force")
		default:
			c.mount(m.Source, to, m.Type, m.Options)
		}
	}
	for _, d := range s.Linux.Devices {
		c.device(&d)
	}
	for _, p := range s.Linux.MaskedPaths {
		switch mode(p) & unix.S_IFMT {
		case 0:
		case unix.S_IFDIR:
			c.entry("tmpfs", p, "tmpfs", []string{"ro"})
		default:
			c.entry("/dev/null", p, "none", []string{"bind"})
		}
	}
	for _, p := range s.Linux.ReadonlyPaths {
		if mode(p) != 0 {
			c.entry(path.Join(root, p), p, "none", []string{"rbind", "ro"})
		}
	}
}

// mode returns what a path of the kernel's file systems is, 0 for nothing: they
// are the same in a container as on the host.
func mode(p string) uint32 {
	var st unix.Stat_t
	if unix.Lstat(p, &st) != nil {
		return 0
	}
	return st.Mode
}

// mount adds a mount, whose target LXC makes.
func (c *config) mount(source, to, kind string, options []string) {
	make := "create=dir"
	if kind == "bind" {
		kind = "none"
		if st, err := os.Stat(source); err == nil && !st.IsDir() {
			make = "create=file"
		}
	}
	var out []string
	for _, o := range options {
		switch o {
		case "rro": // the source is so already (bundle.ReadOnlyTrees)
			o = "ro"
		case "newinstance":
			continue
		}
		out = append(out, o)
	}
	c.entry(source, to, kind, append(out, make))
}

// entry adds a line of fstab(5) with a target below the root.
func (c *config) entry(source, to, kind string, options []string) {
	to = strings.TrimPrefix(path.Clean("/"+to), "/")
	c.set("lxc.mount.entry", fmt.Sprintf("%s %s %s %s 0 0", escape(source), escape(to), kind, escape(strings.Join(options, ","))))
}

// escape writes what separates fields as fstab(5) wants it.
var escaper = strings.NewReplacer(" ", `\040`, "\t", `\011`, `\`, `\134`, "#", `\043`, "\n", `\012`)

func escape(s string) string { return escaper.Replace(s) }

// device binds a device of the host, which LXC cannot make by its numbers.
func (c *config) device(d *specs.LinuxDevice) {
	kind, class := uint32(unix.S_IFCHR), "char"
	if d.Type == "b" {
		kind, class = unix.S_IFBLK, "block"
	}
	number := fmt.Sprintf("%d:%d", d.Major, d.Minor)
	found := d.Path
	// The kernel's name of it; see sysfs(5).
	if raw, err := os.ReadFile("/sys/dev/" + class + "/" + number + "/uevent"); err == nil {
		for line := range strings.Lines(string(raw)) {
			if name, ok := strings.CutPrefix(strings.TrimSpace(line), "DEVNAME="); ok {
				found = "/dev/" + name
			}
		}
	}
	var st unix.Stat_t
	if unix.Stat(found, &st) != nil || st.Mode&unix.S_IFMT != kind || st.Rdev != unix.Mkdev(uint32(d.Major), uint32(d.Minor)) {
		c.fail("device %s (%s), which the host has not in /dev", d.Path, number)
		return
	}
	c.mount(found, d.Path, "bind", []string{"bind"})
}

func (c *config) groups(l *specs.Linux, limits []cgroup.Setting, own string) {
	if l.CgroupsPath != "" {
		// Not an absolute one: it is below the mount points.
		c.set("lxc.cgroup.dir.container", strings.TrimPrefix(l.CgroupsPath, "/"))
		c.set("lxc.cgroup.dir.monitor", strings.TrimPrefix(own, "/")+"/monitor")
		c.set("lxc.cgroup.dir.monitor.pivot", strings.TrimPrefix(own, "/")+"/pivot")
	}
	for _, s := range limits {
		key := "lxc.cgroup."
		if s.Unified {
			key = "lxc.cgroup2."
		}
		c.set(key+s.File, s.Value)
	}
	if l.Resources == nil || len(l.Resources.Devices) == 0 {
		return
	}
	for _, d := range slices.Concat(l.Resources.Devices, cgroup.DefaultDevices()) {
		verb := "deny"
		if d.Allow {
			verb = "allow"
		}
		for _, key := range []string{"lxc.cgroup.devices.", "lxc.cgroup2.devices."} {
			c.set(key+verb, rule(&d))
		}
	}
}

// rule writes a rule for devices as devices.allow wants it.
func rule(d *specs.LinuxDeviceCgroup) string {
	if (d.Type == "" || d.Type == "a") && d.Major == nil && d.Minor == nil {
		return "a"
	}
	number := func(n *int64) string {
		if n == nil || *n < 0 {
			return "*"
		}
		return strconv.FormatInt(*n, 10)
	}
	return d.Type + " " + number(d.Major) + ":" + number(d.Minor) + " " + d.Access
}

// bytesOf writes a size of a tmpfs in bytes, which is what LXC takes.
func bytesOf(size string) string {
	units := map[string]uint64{"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
	low := strings.ToLower(size)
	if n := len(low); n > 0 && units[low[n-1:]] != 0 {
		if v, err := strconv.ParseUint(low[:n-1], 10, 32); err == nil {
			return strconv.FormatUint(v*units[low[n-1:]], 10)
		}
	}
	return size
}
