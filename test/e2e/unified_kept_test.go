package e2e

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"lade/internal/need"
	"lade/test/harness"
)

// TestUnifiedKept: on version 2 a limit holds for whatever is started in a container,
// by whomever, and statistics tell what it costs.
func TestUnifiedKept(t *testing.T) {
	need.Root(t)
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err != nil {
		t.Skip("control groups are not of version 2 here")
	}
	e := harness.Start(t)
	e.Import()
	for _, part := range []struct {
		name string
		run  func(unified)
	}{
		{"devices", unified.kept}, {"delegated", unified.delegated}, {"pressed", unified.pressed}, {"docker", unified.docker},
	} {
		t.Run(part.name, func(t *testing.T) { part.run(unified{e, t, map[string]string{}}) })
	}
}

// kept: the program that allows devices holds for what exec starts, privileged or
// not, after an update of other limits and after the ends of daemon and supervisor.
func (u unified) kept() {
	disk, _ := groups{u.Engine, u.t, true}.loop()
	u.Run("run", "-d", "--name", "box", "--network", "none", "-m", "64m", "--cap-add", "MKNOD", "--device", disk+":/node:r", harness.Image, "sleep", "10000")
	// The memory's own device is nobody's; /node may be read, and not written.
	const script = `head -c 1 /node >/dev/null && echo read
		(echo x >/node) 2>/dev/null && echo written
		test -e /mem || mknod /mem c 1 1
		(head -c 1 /mem) >/dev/null 2>/tmp/why || grep -o 'not permitted' /tmp/why
		echo x >/dev/null && echo done`
	looks := func(when string) {
		u.t.Helper()
		for _, flags := range [][]string{{"exec"}, {"exec", "--privileged"}, {"exec", "-t"}} {
			out, stderr, _ := u.Try(append(flags, "box", "sh", "-c", script)...)
			if got := strings.Join(strings.Fields(out), " "); got != "read not permitted done" {
				u.t.Errorf("%s, %v: %q %s", when, flags, got, stderr)
			}
		}
	}
	looks("at first")
	u.Run("update", "-m", "96m", "--memory-swap", "96m", "--cpus", "1", "box")
	looks("after an update")
	u.Kill()
	u.Launch()
	looks("with another daemon")
	old := u.Supervisor()
	if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
		u.t.Fatal(err)
	}
	need.Eventually(u.t, "there is another supervisor", func() bool { now := u.Supervisor(); return now != 0 && now != old })
	looks("with another supervisor")
	u.Run("update", "-m", "64m", "--memory-swap", "64m", "box")
	looks("after an update by that")
	u.remove("box")
}

// delegated: a container that manages control groups limits its own processes by
// them, and what it writes lifts none of the limits that it was given.
func (u unified) delegated() {
	const script = `cd /sys/fs/cgroup
		echo +pids >cgroup.subtree_control
		mkdir few && echo 3 >few/pids.max
		sh -c 'echo 0 >few/cgroup.procs; for i in 1 2 3 4; do sleep 100 & done' 2>/tmp/few && echo few have no limit
		grep -q 'temporarily unavailable' /tmp/few && echo few are held
		echo 1 >few/cgroup.kill
		(echo max >pids.max) 2>/dev/null; (echo max >memory.max) 2>/dev/null
		mkdir many && echo max >many/pids.max
		sh -c 'echo 0 >many/cgroup.procs; for i in $(seq 30); do sleep 100 & done' 2>/tmp/many && echo many have no limit
		grep -q 'temporarily unavailable' /tmp/many && echo many are held
		echo 1 >many/cgroup.kill`
	out, stderr, _ := u.Try("run", "--rm", "--network", "none", "--security-opt", "writable-cgroups=true", "--pids-limit", "20", harness.Image, "sh", "-c", script)
	if out != "few are held\nmany are held\n" {
		u.t.Errorf("%q %s", out, stderr)
	}
}

// pressed: statistics tell for how long processes waited for memory and for a
// device, which is how version 2 shows what its limits cost.
func (u unified) pressed() {
	g := groups{u.Engine, u.t, true}
	dev, _ := g.loop()
	g.start("pressed", "--cgroup-conf", "memory.high=8000000", "--device", dev+":/dev/disk", "--device-read-iops", dev+":50", harness.Image, "sh", "-c",
		`(while :; do dd if=/dev/disk of=/dev/null iflag=direct bs=4k count=20; done) 2>/dev/null &
		while :; do dd if=/dev/zero of=/dev/shm/x bs=1M count=16; rm /dev/shm/x; done 2>/dev/null`)
	u.soon(func() error {
		p := g.stats("pressed").Pressure
		if p == nil || p.Memory == nil || p.IO == nil || p.Memory.Some.Total == 0 || p.IO.Some.Total == 0 {
			return fmt.Errorf("pressure: %+v", p)
		}
		return nil
	})
}

// docker: its client has the same limits and numbers on version 2.
func (u unified) docker() {
	need.Program(u.t, "docker", "Debian's docker-cli")
	docker := func(args ...string) (string, error) {
		out, err := u.Command("docker", args...).CombinedOutput()
		return strings.TrimSpace(string(out)), err
	}
	if out, err := docker("run", "-d", "--name", "box", "--network", "none", "-m", "64m", "--annotation", "lade.cgroup-conf.pids.max=5", harness.Image, "sleep", "10000"); err != nil {
		u.t.Fatalf("%v: %s", err, out)
	}
	if out, err := docker("exec", "box", "sh", "-c", "for i in 1 2 3 4 5 6; do sleep 100 & done"); err == nil || !strings.Contains(out, "temporarily unavailable") {
		u.t.Errorf("pids.max by annotation: %v, %s", err, out)
	}
	if out, err := docker("stats", "--no-stream", "--format", "{{.MemUsage}}", "box"); err != nil || !strings.HasSuffix(out, " / 64MiB") {
		u.t.Errorf("stats: %v, %s", err, out)
	}
	if out, err := docker("update", "-m", "32m", "--memory-swap", "32m", "box"); err != nil {
		u.t.Errorf("update: %v, %s", err, out)
	}
	// More than that is not to be had.
	if out, err := docker("exec", "box", "dd", "if=/dev/zero", "of=/dev/null", "bs=60M", "count=1"); err == nil {
		u.t.Errorf("60 MB with a limit of 32: %s", out)
	}
	u.remove("box")
}
