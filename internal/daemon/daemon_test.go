package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"lade/internal/engine"
	"lade/internal/errdefs"
	"lade/internal/need"
	"lade/internal/netrate"
)

var testBuild = engine.Build{Version: "0.0-test", Commit: "0123456789"}

// TestMain lets the test binary be the daemon: with LADE_TEST_DAEMON it runs
// start with an engine that only says hello.
func TestMain(m *testing.M) {
	if os.Getenv("LADE_TEST_DAEMON") != "" {
		os.Exit(start(context.Background(), testBuild, os.Args[1:], os.Stdout, os.Stderr, hello))
	}
	os.Exit(m.Run())
}

func hello(context.Context, *Config, *slog.Logger) (*engineService, error) {
	mux := http.NewServeMux()
	mux.HandleFunc("/hello", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") })
	mux.HandleFunc("/wait", func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	return &engineService{Handler: mux, Close: func() error { return nil }}, nil
}

// config writes a configuration file and returns the flag that names it.
func config(t *testing.T, text string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "daemon.json")
	if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return "--config-file=" + p
}

// TestCDIDirs: how the Container Device Interface is switched off.
func TestCDIDirs(t *testing.T) {
	for _, tc := range []struct {
		args []string
		want string
	}{
		{nil, "[/etc/cdi /var/run/cdi]"},
		{[]string{"--cdi-spec-dir=/a", "--cdi-spec-dir=/b"}, "[/a /b]"},
		{[]string{"--cdi-spec-dir="}, "[]"},
		{[]string{"--cdi-spec-dir=/a", "--feature=cdi=false"}, "[]"},
	} {
		c, err := Load(append(tc.args, config(t, `{}`)))
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(c.cdiDirs()); got != tc.want {
			t.Errorf("%v: %s, want %s", tc.args, got, tc.want)
		}
	}
}

func TestLoad(t *testing.T) {
	c, err := Load([]string{
		"-H", "unix:///tmp/x.sock", "-H", "tcp://:1234", "--data-root", "/d", "--exec-root=/e", "--bip=10.1.0.1/24", "--label=a=b", "--label", "c=d,e",
		"--default-ulimit=nofile=10:20", "--default-shm-size=1g", "--log-opt", "max-size=1m", "--add-runtime=crun=/usr/bin/crun", "--icc=false",
		"--storage-driver=overlay2", "--default-address-pool", "base=10.0.0.0/8,size=24", "--shutdown-timeout=3", "--live-restore", "--experimental", "--feature=cdi", "--feature=other", "--net-rate-in=100mbit", "--net-burst=64k",
		config(t, `{"debug":true,"dns":["1.1.1.1"],"proxies":{"https-proxy":"http://p"},"default-stop-timeout":7,"registry-mirrors":["https://m.example"],"net-rate-out":"1.5g","selinux-enabled":true}`),
	})
	if err != nil {
		t.Fatal(err)
	}
	for what, ok := range map[string]bool{
		"hosts":   strings.Join(c.Hosts, " ") == "unix:///tmp/x.sock tcp://127.0.0.1:1234",
		"roots":   c.DataRoot == "/d" && c.ExecRoot == "/e" && c.PIDFile == "/e/laded.pid",
		"labels":  len(c.Labels) == 2 && c.Labels[1] == "c=d,e",
		"ulimit":  c.Ulimits["nofile"].Soft == 10 && c.Ulimits["nofile"].Hard == 20,
		"shm":     c.ShmSize == 1<<30,
		"log":     c.LogOptions["max-size"] == "1m" && c.LogDriver == "json-file",
		"runtime": c.Runtimes["crun"].Path == "/usr/bin/crun",
		"icc":     !c.ICC && c.IPMasq,
		"pool":    c.AddressPools[0] == AddressPool{"10.0.0.0/8", 24},
		"time":    c.ShutdownTimeout == 3*time.Second && c.StopTimeout == 7,
		"level":   c.LogLevel == "debug",
		"file":    c.DNS[0] == "1.1.1.1" && c.HTTPSProxy == "http://p" && c.Mirrors[0] == "https://m.example/" && filepath.Base(c.File) == "daemon.json",
		"without": strings.Join(c.Without, " ") == "feature" && c.Experimental && c.SELinux,
		"feature": c.Features["cdi"],
		"rates":   c.Limits == netrate.Limits{In: 1e8, Out: 15e8, Burst: 64 << 10},
	} {
		if !ok {
			t.Errorf("%s: %+v", what, c)
		}
	}
}

func TestLoadFileForms(t *testing.T) {
	c, err := Load([]string{config(t, "\xef\xbb\xbf"+`{"default-shm-size":"64M","default-ulimits":{"nofile":{"Hard":2,"Soft":1}},"shutdown-timeout":-1,
		"runtimes":{"x":{"path":"/x","runtimeArgs":["--a"]}},"default-address-pools":[{"base":"10.0.0.0/8","size":16}],"log-opts":{"max-file":"2"},"features":{"f":true},
		"builder":{"gc":{"enabled":true}},"nri-opts":{"enable":true},"cdi-spec-dirs":["/c"],"hosts":["unix:///h"],"tls":false}`)})
	if err != nil {
		t.Fatal(err)
	}
	if c.ShmSize != 64<<20 || c.Ulimits["nofile"].Name != "nofile" || c.Runtimes["x"].Args[0] != "--a" || c.AddressPools[0].Size != 16 ||
		c.LogOptions["max-file"] != "2" || !c.Features["f"] || c.Hosts[0] != "unix:///h" || !c.TLSChosen || c.ShutdownTimeout < time.Hour {
		t.Errorf("the configuration of a file: %+v", c)
	}
}

func TestLoadEmptyFile(t *testing.T) {
	if _, err := Load([]string{config(t, "\n")}); err != nil {
		t.Error(err)
	}
}

func TestLoadEnvironment(t *testing.T) {
	t.Setenv("LADE_DATA_ROOT", "/env")
	t.Setenv("LADE_EXEC_ROOT", "/env-exec")
	t.Setenv("LADE_LOG_LEVEL", "error")
	t.Setenv("LADE_TRACE", "mount")
	c, err := Load([]string{"--exec-root=/flag", config(t, `{"log-level":"warn"}`)})
	if err != nil || c.DataRoot != "/env" || c.ExecRoot != "/flag" || c.LogLevel != "error" || c.Trace != "mount" {
		t.Errorf("flags, environment and file together: %+v %v", c, err)
	}
}

func TestLoadErrors(t *testing.T) {
	for _, x := range []struct {
		args []string
		file string
		want string
	}{
		{nil, `{"nope":1,"debug":true,"also":2}`, "the following directives don't match any configuration option: also, nope"},
		{[]string{"--debug", "-H", "unix:///a"}, `{"debug":false,"hosts":["unix:///b"]}`,
			"the following directives are specified both as a flag and in the configuration file: debug: (from flag: true, from file: false), hosts: (from flag: [unix:///a], from file: [unix:///b])"},
		{nil, `{`, "unexpected end of JSON input"},
		{nil, `{"debug":"x"}`, "debug: json: cannot unmarshal string into Go value of type bool"},
		{nil, `{"mtu":-1}`, "invalid default MTU: -1"},
		{nil, `{"net-rate-in":"fast"}`, "net-rate-in: invalid network rate \"fast\": a number of bits per second is needed, as in 100mbit, 1.5g or 64000"},
		{nil, `{"net-rate-out":5}`, "invalid network rate \"5\": it must be between 8kbit and 1tbit, or 0 for no limit"},
		{[]string{"--net-burst=1k"}, "", "invalid network burst 1024: it must be between 1518 bytes"},
		{[]string{"--config-file=/nonexistent.json"}, "", "unable to configure the Docker daemon with file /nonexistent.json: open /nonexistent.json: no such file or directory"},
		{[]string{"--nope"}, "", "unknown flag: --nope"},
		{[]string{"x"}, "", "accepts no arguments"},
		{[]string{"-l", "loud"}, "", "invalid logging level: loud"},
		{[]string{"--bip=10.0.0.1"}, "", "invalid CIDR address: 10.0.0.1"},
		{[]string{"--bip=fd00::1/64"}, "", "other address family"},
		{[]string{"--dns=x"}, "", "IP address is not correctly formatted: x"},
		{[]string{"--label=x"}, "", "bad attribute format: x"},
		{[]string{"--label=x=1", "--label=x=2"}, "", "conflict labels for x=1 and x=2"},
		{[]string{"-H", "unix://rel"}, "", "must be absolute"},
		{[]string{"-H", "npipe://x"}, "", "unsupported proto 'npipe'"},
		{[]string{"--default-runtime=x"}, "", "specified default runtime 'x' does not exist"},
		{[]string{"--add-runtime=lade=/x"}, "", "runtime name 'lade' is reserved"},
		{[]string{"--registry-mirror=ftp://x"}, "", `unsupported scheme "ftp" in "ftp://x"`},
		{[]string{"--default-ulimit=nofile"}, "", "invalid ulimit argument"},
		{[]string{"--default-ipc-mode=host"}, "", "is not supported"},
	} {
		args := x.args
		if x.file != "" {
			args = append(args, config(t, x.file))
		}
		_, err := Load(args)
		if err == nil || !strings.Contains(err.Error(), x.want) || errdefs.KindOf(err) != errdefs.Invalid {
			t.Errorf("%q %s: %v", x.args, x.file, err)
		}
	}
	// All that is wrong is said at once.
	_, err := Load([]string{"--bip=x", "--dns=y", config(t, `{"mtu":-1,"debug":1,"nope":2,"log-driver":"papyrus","min-api-version":"1.2","live-restore":"yes"}`)})
	for _, want := range []string{
		"don't match any configuration option: nope", "debug: json: cannot unmarshal number", "live-restore: json: cannot unmarshal string", "invalid default MTU: -1",
		"invalid CIDR address: x", "not correctly formatted: y", "papyrus", `invalid min-api-version "1.2"`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not said: %v", want, err)
		}
	}
	if _, err := Load([]string{"--help"}); !errors.Is(err, pflag.ErrHelp) {
		t.Error(err)
	}
}

// TestDockerOptions: every flag and key of dockerd is known.
func TestDockerOptions(t *testing.T) {
	b, err := os.ReadFile("testdata/dockerd.txt")
	if err != nil {
		t.Fatal(err)
	}
	flags := newFlags()
	keys := map[string]bool{"proxies": true}
	for _, o := range declare(Default(), flags) {
		keys[o.key] = true
	}
	n := 0
	for line := range strings.Lines(string(b)) {
		n++
		kind, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		if kind == "flag" && flags.Lookup(name) == nil || kind == "key" && !keys[name] {
			t.Errorf("%s %s is not known", kind, name)
		}
	}
	if n < 160 {
		t.Errorf("%d options", n)
	}
	var usage strings.Builder
	if Usage(&usage); !strings.Contains(usage.String(), "--data-root string") {
		t.Error(usage.String())
	}
}

func FuzzFile(f *testing.F) {
	f.Add(`{"debug":true,"default-ulimits":{"nofile":{"Hard":2,"Soft":1}},"runtimes":{"x":{"path":"/x"}}}`)
	f.Add(`{"default-ulimits":{"a":null},"default-shm-size":-1,"proxies":[]}`)
	f.Fuzz(func(t *testing.T, text string) {
		c, flags := Default(), newFlags()
		if c.apply([]byte(text), flags, declare(c, flags)) == nil {
			var wrong problems
			c.validate(&wrong)
		}
	})
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestListenUnix(t *testing.T) {
	p := filepath.Join(t.TempDir(), "run", "l.sock")
	l, err := listenUnix(p, terms{perm: socketMode}, discard())
	if err != nil {
		t.Fatal(err)
	}
	fi, err := os.Lstat(p)
	if err != nil || fi.Mode() != os.ModeSocket|0o660 || l.Addr().String() != p {
		t.Errorf("the socket: %v %v %v", fi.Mode(), l.Addr(), err)
	}
	// Someone answers: the second daemon is refused.
	if _, err := listenUnix(p, terms{perm: socketMode}, discard()); errdefs.KindOf(err) != errdefs.Conflict {
		t.Error(err)
	}
	// A killed daemon leaves its socket: it is replaced.
	l.(*unixListener).UnixListener.Close()
	next, err := listenUnix(p, terms{perm: socketMode}, discard())
	if err != nil {
		t.Fatal(err)
	}
	// The old listener does not remove what is not its own.
	l.Close()
	if _, err := os.Lstat(p); err != nil {
		t.Error(err)
	}
	next.Close()
	if _, err := os.Lstat(p); !os.IsNotExist(err) {
		t.Error("the socket is still there", err)
	}
	entries, err := os.ReadDir(filepath.Dir(p))
	if err != nil || len(entries) != 0 {
		t.Error(entries, err)
	}
}

func TestListenRefused(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*Config{
		{API: API{Hosts: []string{"unix://" + file}}},
		{API: API{Hosts: []string{"unix://" + dir + "/s.sock"}, Group: "no-such-group"}},
		{API: API{Hosts: []string{"unix://" + dir + "/t.sock", "tcp://0.0.0.0:0"}}},
		{API: API{Hosts: []string{"tcp://127.0.0.1:0"}, TLS: true, TLSCert: file, TLSKey: file}},
		{API: API{Hosts: []string{"fd://"}}},
	} {
		ls, err := Listen(c, discard())
		if err == nil || len(ls) != 0 {
			t.Errorf("listeners that cannot be: %v: %v %v", c.Hosts, ls, err)
			closeAll(ls)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Error(entries, err)
	}
	ls, err := Listen(&Config{API: API{Hosts: []string{"tcp://0.0.0.0:0"}, TLSChosen: true}}, discard())
	if err != nil {
		t.Error(err)
	}
	closeAll(ls)
}

func TestPIDFile(t *testing.T) {
	p := filepath.Join(t.TempDir(), "x.pid")
	child := exec.Command("sleep", "60")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { child.Process.Kill(); child.Wait() })
	write := func(text string) {
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(strconv.Itoa(child.Process.Pid))
	if _, err := WritePIDFile(p); errdefs.KindOf(err) != errdefs.Conflict || !strings.HasSuffix(err.Error(), "process with PID "+strconv.Itoa(child.Process.Pid)+" is still running") {
		t.Error(err)
	}
	// A process that is younger than the file only has the number.
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(p, old, old); err != nil {
		t.Fatal(err)
	}
	remove, err := WritePIDFile(p)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(p); err != nil || string(b) != strconv.Itoa(os.Getpid()) {
		t.Errorf("the file of the process id: %q %v", b, err)
	}
	if err := remove(); err != nil {
		t.Error(err)
	}
	for _, stale := range []string{"999999999", "garbage", ""} {
		write(stale)
		remove, err := WritePIDFile(p)
		if err != nil {
			t.Errorf("%q: %v", stale, err)
			continue
		}
		write("1") // someone else's now
		if err := remove(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(p); err != nil {
			t.Error(err)
		}
		os.Remove(p)
	}
}

// daemonProcess is the test binary running as a daemon.
type daemonProcess struct {
	*exec.Cmd
	dir, socket string
	log         *need.Buffer
}

// launch starts a daemon and waits until it says that it is ready.
func launch(t *testing.T, args ...string) *daemonProcess {
	t.Helper()
	dir := t.TempDir()
	ready := filepath.Join(dir, "n")
	n, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: ready, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	d := &daemonProcess{dir: dir, socket: filepath.Join(dir, "l.sock"), log: new(need.Buffer)}
	d.Cmd = exec.Command("/proc/self/exe", append([]string{"--data-root=" + dir + "/data", "--exec-root=" + dir + "/exec", "-H", "unix://" + d.socket}, args...)...)
	d.Env = append(os.Environ(), "LADE_TEST_DAEMON=1", "NOTIFY_SOCKET="+ready)
	d.Stdout, d.Stderr = d.log, d.log
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if d.ProcessState == nil {
			d.Process.Kill()
			d.Wait()
		}
	})
	n.SetReadDeadline(time.Now().Add(need.Patience(30 * time.Second)))
	b := make([]byte, 64)
	if k, err := n.Read(b); err != nil || string(b[:k]) != "READY=1" {
		t.Fatalf("%q %v\n%s", b[:k], err, d.log)
	}
	return d
}

func (d *daemonProcess) get(path string) (string, error) { return d.getFrom(d.socket, path) }

func (d *daemonProcess) getFrom(socket, path string) (string, error) {
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	res, err := c.Get("http://d" + path)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return string(b), err
}

func TestDaemon(t *testing.T) {
	d := launch(t, "--debug", "--nri-opts=x", "-H", "tcp://127.0.0.1:0")
	if got, err := d.get("/hello"); err != nil || got != "hello" {
		t.Errorf("%q %v\n%s", got, err, d.log)
	}
	d.log.Await(t, "these options have no effect")
	d.log.Await(t, "uid=0")
	d.Process.Signal(syscall.SIGUSR1)
	d.log.Await(t, "goroutine ")
	d.Process.Signal(syscall.SIGHUP)
	d.log.Await(t, "configuration reloaded")

	// A second daemon with the same process id file does not start.
	second := exec.Command("/proc/self/exe", d.Args[1:]...)
	second.Env = append(os.Environ(), "LADE_TEST_DAEMON=1")
	out, err := second.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "process with PID "+strconv.Itoa(d.Process.Pid)+" is still running") {
		t.Errorf("a second daemon: %v %s", err, out)
	}

	// Stopping ends streams at once and leaves nothing behind.
	waiting := make(chan error, 1)
	go func() {
		_, err := d.get("/wait")
		waiting <- err
	}()
	need.Eventually(t, "the stream's connection is in the log", func() bool { return strings.Count(d.log.String(), "msg=connection") >= 2 })
	begin := time.Now()
	d.Process.Signal(syscall.SIGTERM)
	if err := d.Wait(); err != nil {
		t.Errorf("%v\n%s", err, d.log)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("stopping took %v", took)
	}
	<-waiting
	for _, p := range []string{d.socket, d.dir + "/exec/laded.pid"} {
		if _, err := os.Lstat(p); !os.IsNotExist(err) {
			t.Errorf("%s is still there: %v", p, err)
		}
	}
}

// TestDaemonKilled: what a killed daemon leaves behind does not stop the next.
func TestDaemonKilled(t *testing.T) {
	d := launch(t)
	d.Process.Kill()
	d.Wait()
	for _, p := range []string{d.socket, d.dir + "/exec/laded.pid"} {
		if _, err := os.Lstat(p); err != nil {
			t.Error(err)
		}
	}
	next := exec.Command("/proc/self/exe", d.Args[1:]...)
	next.Env = append(os.Environ(), "LADE_TEST_DAEMON=1")
	if err := next.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { next.Process.Signal(syscall.SIGTERM); next.Wait() }()
	need.Eventually(t, "the next daemon answers", func() bool {
		_, err := d.get("/hello")
		return err == nil
	})
}

func TestAsk(t *testing.T) {
	for _, x := range []struct {
		args []string
		code int
		out  string
	}{
		{[]string{"--version"}, 0, "lade version 0.0-test, build"},
		{[]string{"--validate", "--debug"}, 0, "configuration OK\n"},
		{[]string{"--validate", "--nri-opts=enable=true", "--feature=cdi", "--feature=buildkit"}, 0, "nri-opts has no effect: there is no NRI\nconfiguration OK\n"},
		{[]string{"--validate", "--feature=time-travel", "--node-generic-resource=gpu=1", "--cpu-rt-period=1000"}, 0, "feature has no effect: the engine knows buildkit and cdi\ncpu-rt-period has no effect: the parent group gets what its containers ask for\nnode-generic-resource has no effect: it is for swarms\nconfiguration OK\n"},
		{[]string{"--validate", "--allow-direct-routing", "--bridge-accept-fwmark=0x1/0x3", "--firewall-backend=nftables", "--cdi-spec-dir=/x", "--apparmor-profile=mine", "--seccomp-profile=unconfined", "--rootless=false"}, 0, "configuration OK\n"},
		{[]string{"--validate", "--firewall-backend=iptables"}, 1, "invalid firewall-backend \"iptables\": rules are made with nftables;"},
		{[]string{"--validate", "--firewall-backend=pf"}, 1, "invalid firewall-backend \"pf\"\n"},
		{[]string{"--validate", "--bridge-accept-fwmark=blue"}, 1, "invalid bridge-accept-fwmark: invalid firewall mark \"blue\""},
		{[]string{"--validate", "--rootless"}, 1, "rootless mode is not there: laded needs root"},
		{[]string{"--validate", "--seccomp-profile=/no/such"}, 1, "opening seccomp profile (/no/such) failed"},
		{[]string{"--validate", "--experimental", "--oom-score-adjust=-500", "--feature=buildkit=false", "--host-gateway-ip=10.0.0.1", "--default-network-opt=bridge=a=b"}, 0, "configuration OK\n"},
		{[]string{"--validate", "--oom-score-adjust=5000"}, 1, "invalid oom-score-adjust: 5000 is not between -1000 and 1000\n"},
		{[]string{"--validate", "--default-network-opt=bridge"}, 1, "invalid argument \"bridge\" for \"--default-network-opt\" flag: invalid default network option"},
		{[]string{"--validate", "--iptables=false", "--ip6tables=false", "--userland-proxy=false", "--ip-forward=false", "--ip-masq=false", "--ip-forward-no-drop"}, 0, "configuration OK\n"},
		{[]string{"--help"}, 0, "Usage:  laded [OPTIONS]"},
		{[]string{"--validate", "--mtu=-5"}, 1, "invalid default MTU: -5\n"},
	} {
		var out bytes.Buffer
		code := start(t.Context(), testBuild, x.args, &out, &out, func(context.Context, *Config, *slog.Logger) (*engineService, error) {
			t.Error("the engine was built")
			return nil, errors.New("no")
		})
		if code != x.code || !strings.HasPrefix(out.String(), x.out) {
			t.Errorf("%q: %d %q", x.args, code, &out)
		}
	}
}

// TestRules reads what the daemon may do to the host's firewall and forwarding.
func TestRules(t *testing.T) {
	for _, on := range []bool{true, false} {
		c := &Config{Bridge: Bridge{IPTables: on, IP6Tables: on, UserlandProxy: on, IPForward: on, IPMasq: on}}
		n, err := networkConfig(c)
		if err != nil || n.NoRules4 == on || n.NoRules6 == on || n.NoProxy == on || n.IPForward != on || n.IPMasq != on {
			t.Errorf("all of them %v: %+v, %v", on, n, err)
		}
	}
}

// TestActivation: sockets that a service manager opened are served.
func TestActivation(t *testing.T) {
	p := filepath.Join(t.TempDir(), "a.sock")
	l, err := net.Listen("unix", p)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f, err := l.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dir := t.TempDir()
	// The variable must hold the process id of the daemon, which only a shell
	// that becomes it knows beforehand.
	c := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, "/proc/"+strconv.Itoa(os.Getpid())+"/exe",
		"--data-root="+dir+"/d", "--exec-root="+dir+"/e", "-H", "fd://main")
	c.Env = append(os.Environ(), "LADE_TEST_DAEMON=1", "LISTEN_FDS=1", "LISTEN_FDNAMES=main")
	c.ExtraFiles = []*os.File{f}
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	d := &daemonProcess{socket: p}
	got, err := d.get("/hello") // waits in the backlog
	c.Process.Signal(syscall.SIGTERM)
	c.Wait()
	if err != nil || got != "hello" {
		t.Errorf("%q %v\n%s", got, err, &out)
	}
}
