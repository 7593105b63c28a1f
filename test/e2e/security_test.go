package e2e

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"lade/internal/need"
	"lade/test/harness"
)

const denyMkdir = `{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 18}]}`

// TestSecurityDefaults starts daemons whose configuration says what containers
// are held back by that do not say otherwise.
func TestSecurityDefaults(t *testing.T) {
	need.Root(t)
	profile := filepath.Join(t.TempDir(), "profile.json")
	if err := os.WriteFile(profile, []byte(denyMkdir), 0o644); err != nil {
		t.Fatal(err)
	}
	status := []string{"lade/hello", "sh", "-c", "grep -E 'NoNewPrivs:|Seccomp:' /proc/self/status; mkdir /x 2>&1"}
	for _, tc := range []struct {
		flags, options []string
		want           []string
	}{
		{[]string{"--seccomp-profile", profile, "--no-new-privileges"}, nil, []string{"NoNewPrivs:\t1", "Seccomp:\t2", "cross-device link"}},
		{[]string{"--seccomp-profile", profile, "--no-new-privileges"}, []string{"--security-opt", "no-new-privileges=false", "--security-opt", "seccomp=builtin"}, []string{"NoNewPrivs:\t0", "Seccomp:\t2"}},
		{[]string{"--seccomp-profile", profile, "--no-new-privileges"}, []string{"--privileged"}, []string{"NoNewPrivs:\t1", "Seccomp:\t0"}},
		{[]string{"--seccomp-profile", "unconfined"}, nil, []string{"NoNewPrivs:\t0", "Seccomp:\t0"}},
		{[]string{"--seccomp-profile", "unconfined"}, []string{"--security-opt", "seccomp=" + profile}, []string{"Seccomp:\t2", "cross-device link"}},
	} {
		t.Run(strings.Join(append(tc.flags[1:2:2], tc.options...), " "), func(t *testing.T) {
			e := harness.Start(t, tc.flags...)
			out, stderr, _ := e.Try(append(append([]string{"run", "--rm"}, tc.options...), status...)...)
			for _, want := range tc.want {
				if !strings.Contains(out, want) {
					t.Errorf("no %q in %s%s", want, out, stderr)
				}
			}
			if strings.Contains(out, "cross-device") && !strings.Contains(strings.Join(tc.want, " "), "cross-device") {
				t.Errorf("the daemon's profile is in force: %s", out)
			}
			info := e.Run("info", "--format", "{{.SecurityOptions}} {{.Warnings}}")
			if !strings.Contains(info, "name=seccomp,profile="+tc.flags[1]) || !strings.Contains(info, "not using the default seccomp profile") {
				t.Errorf("info: %s", info)
			}
			if len(tc.flags) > 2 && !strings.Contains(info, "name=no-new-privileges") {
				t.Errorf("info: %s", info)
			}
		})
	}
}

// TestSeccompDenies: a profile that denies the end of a process, or all that it can
// ask for, fails what cannot be executed, at once; nothing is left that runs.
func TestSeccompDenies(t *testing.T) {
	e := harness.Start(t)
	profile := filepath.Join(t.TempDir(), "profile.json")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(profile, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(`{"defaultAction": "SCMP_ACT_ERRNO"}`)
	for _, cli := range []string{"lade", "docker"} {
		out, err := e.Command(cli, "run", "--rm", "--security-opt", "seccomp="+profile, "lade/hello", "true").CombinedOutput()
		if err == nil || !strings.Contains(string(out), ": operation not permitted") {
			t.Errorf("%s, all is denied: %v %s", cli, err, out)
		}
	}
	write(`{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["exit", "exit_group"], "action": "SCMP_ACT_ERRNO"}]}`)
	e.Run("run", "-d", "--name", "box", "--security-opt", "seccomp="+profile, "lade/hello", "sleep", "1000")
	if out, stderr, code := e.Try("exec", "box", "/nope"); code != 127 || !strings.Contains(out+stderr, "no such file or directory") {
		t.Errorf("exec of what is not there: %d %s%s", code, out, stderr)
	}
	if top := e.Run("top", "box", "-o", "pid,args"); strings.Count(top, "\n") != 1 {
		t.Errorf("left in the container: %s", top)
	}
}

// TestSeccompNotify gives the docker client a profile with a listener: an agent
// outside is told of the container, and gets what answers its calls.
func TestSeccompNotify(t *testing.T) {
	e := harness.Start(t)
	dir := t.TempDir()
	socket, profile := filepath.Join(dir, "agent"), filepath.Join(dir, "notify.json")
	text := `{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "` + socket + `", "listenerMetadata": "from docker", "flags": ["SECCOMP_FILTER_FLAG_LOG"],
		"syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}]}`
	if err := os.WriteFile(profile, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	run := func() (string, error) {
		out, err := e.Command("docker", "run", "--rm", "--name", "told", "--security-opt", "seccomp="+profile, "lade/hello", "sh", "-c", "mkdir /x 2>&1; echo after").CombinedOutput()
		return string(out), err
	}
	if out, err := run(); err == nil || !strings.Contains(out, "unable to connect to the seccomp listener") {
		t.Errorf("nobody listens: %v %s", err, out)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	state := make(chan specs.ContainerProcessState, 1)
	go func() {
		defer close(state)
		c, err := l.AcceptUnix()
		if err != nil {
			return
		}
		defer c.Close()
		body, control := make([]byte, 8192), make([]byte, 64)
		n, cn, _, _, err := c.ReadMsgUnix(body, control)
		if err != nil {
			t.Errorf("the agent's message: %v", err)
			return
		}
		messages, err := unix.ParseSocketControlMessage(control[:cn])
		if err != nil || len(messages) != 1 {
			t.Errorf("the descriptors that came to the agent: %v, %v", messages, err)
			return
		}
		fds, err := unix.ParseUnixRights(&messages[0])
		if err != nil {
			t.Errorf("the agent's descriptors: %v", err)
			return
		}
		var s specs.ContainerProcessState
		if err := json.Unmarshal(body[:n], &s); err != nil {
			t.Errorf("the state that the agent was sent: %v", err)
		}
		state <- s
		// Nobody answers: the kernel says ENOSYS to all calls from now on.
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	out, err := run()
	if err != nil || !strings.Contains(out, "unction not implemented") || !strings.Contains(out, "after") {
		t.Errorf("a container whose agent has left: %v %s", err, out)
	}
	got, ok := <-state
	if !ok || got.Metadata != "from docker" || got.Pid <= 1 || len(got.State.ID) != 64 || got.State.Status != specs.StateCreating {
		t.Errorf("the agent was told %+v", got)
	}
}
