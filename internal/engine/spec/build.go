package spec

import (
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"

	"lade/internal/errdefs"
)

// defaultPath is the PATH of a process whose image and container set none.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// Build makes a container's specification. The slices and maps of in are not
// kept or changed. Errors: Invalid for what Docker refuses.
func Build(in Input) (*Output, error) {
	sec, err := parseSecurity(in.Host, in.Security)
	if err != nil {
		return nil, err
	}
	s := &specs.Spec{
		Version:     specs.Version,
		Root:        &specs.Root{Path: "rootfs", Readonly: in.Host.ReadonlyRootfs},
		Hostname:    in.Config.Hostname,
		Domainname:  in.Config.Domainname,
		Annotations: maps.Clone(in.Host.Annotations),
		Linux: &specs.Linux{
			CgroupsPath: in.CgroupPath,
			MountLabel:  in.Labels.Mount,
			Namespaces:  namespaces(in),
		},
	}
	if in.Namespaces.UTS == "host" {
		s.Hostname, s.Domainname = "", ""
	}
	if !in.User.Empty() {
		s.Linux.UIDMappings, s.Linux.GIDMappings = in.User.UID, in.User.GID
	}
	if err := timeNamespace(s.Linux, in.Host); err != nil {
		return nil, err
	}
	if s.Process, err = process(in, sec); err != nil {
		return nil, err
	}
	if err := mounts(s, in, sec); err != nil {
		return nil, err
	}
	s.Linux.MaskedPaths, s.Linux.ReadonlyPaths = paths(in.Host, in.Facts, sec)
	if s.Linux.Sysctl, err = sysctls(in); err != nil {
		return nil, err
	}
	if s.Linux.Resources, err = resources(in.Host, in.Facts, in.Devices); err != nil {
		return nil, err
	}
	if s.Linux.Devices, s.Linux.Resources.Devices, err = devices(in); err != nil {
		return nil, err
	}
	if in.Edits != nil {
		if err := in.Edits.Apply(s, in.Devices); err != nil {
			return nil, err
		}
	}
	profile, err := sec.profile(in, s.Process.Capabilities.Bounding)
	if err != nil {
		return nil, err
	}
	return &Output{Spec: s, Seccomp: profile}, nil
}

// process makes the main process.
func process(in Input, sec *security) (*specs.Process, error) {
	p := &specs.Process{
		Terminal:        in.Config.Tty,
		Args:            append([]string{in.Path}, in.Args...),
		Env:             environment(in.Config, in.Config.Tty),
		Cwd:             in.Config.WorkingDir,
		NoNewPrivileges: sec.noNewPrivileges,
		ApparmorProfile: sec.apparmorProfile(in),
		SelinuxLabel:    in.Labels.Process,
		OOMScoreAdj:     new(in.Host.OomScoreAdj),
	}
	if in.Path == "" {
		return nil, errdefs.Invalidf("no command specified")
	}
	if p.Cwd == "" {
		p.Cwd = "/"
	}
	if !path.IsAbs(p.Cwd) {
		return nil, errdefs.Invalidf("the working directory '%s' is invalid, it needs to be an absolute path", p.Cwd)
	}
	p.User.Umask = in.Host.Umask
	if size := in.Host.ConsoleSize; in.Config.Tty && (size[0] != 0 || size[1] != 0) {
		p.ConsoleSize = &specs.Box{Height: size[0], Width: size[1]}
	}
	list, err := capabilities(in.Host, in.Facts)
	if err != nil {
		return nil, err
	}
	p.Capabilities = capabilitySets(list)
	p.Rlimits, err = rlimits(in.Host)
	return p, err
}

// Exec makes an additional process of a container, and the seccomp profile that
// it gets: the container's. Errors: as Build.
func Exec(in Input, x ExecInput) (*specs.Process, *specs.LinuxSeccomp, error) {
	if len(x.Cmd) == 0 {
		return nil, nil, errdefs.Invalidf("No exec command specified")
	}
	sec, err := parseSecurity(in.Host, in.Security)
	if err != nil {
		return nil, nil, err
	}
	in.Path, in.Args = x.Cmd[0], x.Cmd[1:]
	p, err := process(in, sec)
	if err != nil {
		return nil, nil, err
	}
	profile, err := sec.profile(in, p.Capabilities.Bounding)
	if err != nil {
		return nil, nil, err
	}
	p.Terminal, p.ConsoleSize = x.Tty, nil
	if x.Tty && x.ConsoleSize != nil {
		p.ConsoleSize = &specs.Box{Height: x.ConsoleSize[0], Width: x.ConsoleSize[1]}
	}
	p.Env = replaceEnv(environment(in.Config, x.Tty), x.Env)
	if x.WorkingDir != "" {
		if !path.IsAbs(x.WorkingDir) {
			return nil, nil, errdefs.Invalidf("Cwd must be an absolute path")
		}
		p.Cwd = x.WorkingDir
	}
	if x.Privileged {
		p.Capabilities = capabilitySets(slices.Clone(in.Facts.Capabilities))
	}
	return p, profile, nil
}

// environment is the engine's part of the environment, overridden by the
// container's.
func environment(c *container.Config, tty bool) []string {
	env := []string{"PATH=" + defaultPath, "HOSTNAME=" + c.Hostname}
	if tty {
		env = append(env, "TERM=xterm")
	}
	return replaceEnv(env, c.Env)
}

// replaceEnv overrides variables in their places and appends new ones. A name
// without "=" removes the variable.
func replaceEnv(env, over []string) []string {
	env = slices.Clip(env)
	for _, kv := range over {
		name, _, set := strings.Cut(kv, "=")
		i := slices.IndexFunc(env, func(e string) bool { n, _, _ := strings.Cut(e, "="); return n == name })
		switch {
		case set && i < 0:
			env = append(env, kv)
		case set:
			env[i] = kv
		case i >= 0:
			env = slices.Delete(env, i, i+1)
		}
	}
	return env
}

// namespaces lists what the container has of its own or joins.
func namespaces(in Input) (list []specs.LinuxNamespace) {
	list = append(list, specs.LinuxNamespace{Type: specs.MountNamespace})
	for _, ns := range []struct {
		kind specs.LinuxNamespaceType
		from string
	}{
		{specs.NetworkNamespace, in.Namespaces.Net},
		{specs.UTSNamespace, in.Namespaces.UTS},
		{specs.PIDNamespace, in.Namespaces.PID},
		{specs.IPCNamespace, in.Namespaces.IPC},
		{specs.CgroupNamespace, in.Namespaces.Cgroup},
	} {
		if ns.from != "host" {
			list = append(list, specs.LinuxNamespace{Type: ns.kind, Path: ns.from})
		}
	}
	if !in.User.Empty() {
		list = append(list, specs.LinuxNamespace{Type: specs.UserNamespace, Path: in.UserNS})
	}
	return list
}

// rlimits translates --ulimit. −1 is no limit.
func rlimits(hc *container.HostConfig) (out []specs.POSIXRlimit, err error) {
	for _, u := range hc.Ulimits {
		if err := checkUlimit(u); err != nil {
			return nil, err
		}
		out = append(out, specs.POSIXRlimit{Type: "RLIMIT_" + strings.ToUpper(u.Name), Soft: uint64(u.Soft), Hard: uint64(u.Hard)})
	}
	return out, nil
}

// ulimits are the limits of setrlimit(2) that can be set.
const ulimits = " core cpu data fsize locks memlock msgqueue nice nofile nproc rss rtprio rttime sigpending stack "

func checkUlimit(u *container.Ulimit) error {
	if u == nil || !strings.Contains(ulimits, " "+u.Name+" ") {
		name := ""
		if u != nil {
			name = u.Name
		}
		return errdefs.Invalidf("invalid ulimit type: %s", name)
	}
	if u.Hard != -1 && (u.Soft == -1 || u.Soft > u.Hard) {
		soft := strconv.FormatInt(u.Soft, 10)
		if u.Soft == -1 {
			return errdefs.Invalidf("ulimit soft limit must be less than or equal to hard limit: soft: -1 (unlimited), hard: %d", u.Hard)
		}
		return errdefs.Invalidf("ulimit soft limit must be less than or equal to hard limit: %s > %d", soft, u.Hard)
	}
	return nil
}
