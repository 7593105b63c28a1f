package apparmor

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"strings"

	"lade/internal/errdefs"
	"lade/internal/trace"
)

const (
	enabled  = "/sys/module/apparmor/parameters/enabled"
	profiles = "/sys/kernel/security/apparmor/profiles"
	parser   = "apparmor_parser"
)

// Default is the name of the engine's profile.
const Default = "lade-default"

// Enabled reports whether the kernel enforces AppArmor, and shows its profiles.
func Enabled() bool {
	b, err := os.ReadFile(enabled)
	if err != nil || !strings.HasPrefix(string(b), "Y") {
		return false
	}
	_, err = os.Stat(profiles)
	return err == nil
}

// Loaded reports whether the kernel has a profile of that name, in any mode.
// Errors: Unavailable without AppArmor.
func Loaded(name string) (bool, error) {
	f, err := os.Open(profiles)
	if errors.Is(err, fs.ErrNotExist) {
		return false, errdefs.Unavailablef("AppArmor is not enabled: %w", err)
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	return contains(bufio.NewScanner(f), name)
}

// contains looks through lines such as "lade-default (enforce)". A name may have
// blanks; the mode has none.
func contains(s *bufio.Scanner, name string) (bool, error) {
	for s.Scan() {
		if i := strings.LastIndex(s.Text(), " ("); i >= 0 && s.Text()[:i] == name {
			return true, nil
		}
	}
	return false, s.Err()
}

// Load has the kernel replace the engine's profile with what this version
// brings; processes that have the old one get the new one. It takes some tenths
// of a second. daemon is the label of the process that sends signals to
// containers, as Current returns it. Errors: Unavailable without
// apparmor_parser(8).
func Load(ctx context.Context, daemon string) error {
	path, err := exec.LookPath(parser)
	if err != nil {
		return errdefs.Unavailablef("%s is not installed, so the profile %s cannot be loaded: %w", parser, Default, err)
	}
	span := trace.Begin(trace.Process, "apparmor_parser", Default)
	// Without the cache: it is keyed by the name of a file.
	cmd := exec.CommandContext(ctx, path, "--replace", "--skip-cache", "--quiet")
	cmd.Stdin = strings.NewReader(Profile(Default, daemon))
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return span.End(errdefs.Internalf("%s: %w: %s", parser, err, bytes.TrimSpace(out.Bytes())))
	}
	return span.End(nil)
}

// Current returns the label of the calling process, "unconfined" if it has none.
func Current() string {
	b, err := os.ReadFile("/proc/self/attr/current")
	if err != nil {
		return unconfined
	}
	label, _, _ := strings.Cut(strings.TrimRight(string(b), "\x00\n"), " (")
	if label == "" {
		return unconfined
	}
	return label
}

const unconfined = "unconfined"

// Profile returns the text of a profile for containers. It allows what is not
// the host's: files (what a container sees of them its mounts say), the network,
// capabilities (its bounding set says which), signals and traces among its own
// processes, signals from daemon. It denies sockets of AF_ALG, mounts, the
// settings of the kernel in /proc/sys but those of namespaces, and what in /proc
// and /sys gives away or changes the host: the masks do so too, and this is a
// second lock, which holds when a mask is got around.
//
// Source: apparmor.d(5).
func Profile(name, daemon string) string {
	var b strings.Builder
	line := func(s string) { b.WriteString(s + "\n") }
	line(`profile "` + name + `" flags=(attach_disconnected,mediate_deleted) {`)
	for _, rule := range []string{
		"network", "capability", "file", "umount",
		"deny network alg", // the kernel's cryptography: 32-bit calls get past seccomp to it
		`signal (receive) peer="` + daemon + `"`,
		`signal (send,receive) peer="` + name + `"`,
		`ptrace (trace,read,tracedby,readby) peer="` + name + `"`,
		"deny mount",
		"deny @{PROC}/* w",
		"deny @{PROC}/{acpi,bus,driver,fs,irq,scsi,tty}/** wklx",
		"deny @{PROC}/{kcore,kmem,mem,sysrq-trigger} rwklx",
		// Of /proc/sys what belongs to no namespace.
		"deny @{PROC}/sys/{abi,crypto,debug,dev,fs,sunrpc,user,vm}/** w",
		"deny @{PROC}/sys/kernel/{core_,firmware_config/,ftrace,hung_task,io_uring,kexec,keys/,latency,modprobe,modules_,nmi,numa,panic,perf_,poweroff,printk,pty/," +
			"random,sched,seccomp/,soft,stack,sysctl_,traceoff,unprivileged,usermodehelper/,watchdog,yama/}** w",
		"deny @{PROC}/sys/kernel/{acct,auto_msgmni,cad_pid,ctrl-alt-del,dmesg_restrict,hotplug,kptr_restrict,max_lock_depth,ngroups_max,oops_limit,overflowgid," +
			"overflowuid,pid_max,sysrq,tainted,threads-max,timer_migration,warn_limit} w",
		"deny /sys/{block,bus,class,dev,devices,hypervisor,kernel,module,power}/** wklx",
		"deny /sys/fs/{bpf,btrfs,ecryptfs,ext4,f2fs,fuse,pstore,resctrl,selinux,smackfs,xfs}/** wklx",
		"deny /sys/firmware/** rwklx",
		"deny /sys/devices/virtual/powercap/** rwklx",
		"deny /sys/kernel/security/** rwklx",
	} {
		line("  " + rule + ",")
	}
	line("}")
	return "@{PROC}=/proc/\n" + b.String()
}
