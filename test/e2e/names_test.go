package e2e

import (
	"archive/tar"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"lade/internal/linux/netns"
	"lade/internal/need"
	"lade/test/harness"
)

// hostPrograms makes an image with the host's programs and C library, for tests of
// resolvers: what is in it is the links of a merged /usr, which is bound.
func hostPrograms(t *testing.T, e *harness.Engine) (image string, run []string) {
	t.Helper()
	need.Program(t, "dig", "Debian's bind9-dnsutils")
	need.Program(t, "busybox", "Debian's busybox-static")
	name := filepath.Join(t.TempDir(), "programs.tar")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(f)
	put := func(h tar.Header, body string) {
		h.Size = int64(len(body))
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"etc/", "tmp/", "usr/", "root/"} {
		put(tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o755}, "")
	}
	for _, link := range []string{"bin", "sbin", "lib", "lib64"} {
		put(tar.Header{Name: link, Typeflag: tar.TypeSymlink, Linkname: "usr/" + link}, "")
	}
	put(tar.Header{Name: "etc/passwd", Typeflag: tar.TypeReg, Mode: 0o644}, "root:x:0:0:root:/root:/bin/sh\n")
	put(tar.Header{Name: "etc/nsswitch.conf", Typeflag: tar.TypeReg, Mode: 0o644}, "hosts: files dns\n")
	if err := errors.Join(w.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	e.Run("import", name, "programs")
	return "programs", []string{"-v", "/usr:/usr:ro"}
}

// TestNames asks for containers on three networks with the resolvers of glibc,
// busybox and BIND, and goes on while daemon and supervisor go away.
func TestNames(t *testing.T) {
	e := harness.Start(t)
	image, mounts := hostPrograms(t, e)
	docker := func(args ...string) string {
		t.Helper()
		out, err := e.Command(need.Program(t, "docker", "Docker's client"), args...).CombinedOutput()
		if err != nil {
			t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return strings.TrimSuffix(string(out), "\n")
	}
	for _, n := range [][]string{{"--ipv6", "front"}, {"back"}, {"--internal", "inner"}} {
		docker(append([]string{"network", "create"}, n...)...)
	}
	t.Cleanup(func() {
		e.Run("rm", "-f", "web", "db", "pool1", "pool2", "asks", "inside", "late")
		e.Run("network", "rm", "front", "back", "inner")
	})
	start := func(name string, flags ...string) {
		t.Helper()
		docker(append(append(append([]string{"run", "-d", "--dns", "127.0.0.1", "--name", name}, mounts...), flags...), image, "sleep", "1000")...)
	}
	ip := func(name, network string) string {
		t.Helper()
		return docker("inspect", "-f", "{{(index .NetworkSettings.Networks \""+network+"\").IPAddress}}", name)
	}
	start("web", "--network", "front", "--network-alias", "www", "--hostname", "webhost")
	start("db", "--network", "back")
	start("pool1", "--network", "front", "--network-alias", "pool")
	start("pool2", "--network", "front", "--network-alias", "pool")
	start("asks", "--network", "front", "--link", "web:linked")
	start("inside", "--network", "inner")
	docker("network", "connect", "back", "asks")
	web, db := ip("web", "front"), ip("db", "back")
	web6 := docker("inspect", "-f", "{{.NetworkSettings.Networks.front.GlobalIPv6Address}}", "web")
	id := docker("inspect", "-f", "{{.Id}}", "web")[:12]

	getent := func(from, name string) string {
		out, _, _ := e.Try("exec", from, "getent", "ahostsv4", name)
		addr, _, _ := strings.Cut(out, " ")
		return addr
	}
	quick := func(from, name string) string { // glibc would wait five seconds
		out, _, _ := e.Try("exec", from, "dig", "+short", "+time=1", "+tries=1", name)
		return strings.TrimSpace(out)
	}
	for name, want := range map[string]string{
		"web": web, "WWW": web, "web.front": web, id: web, "webhost": web, "linked": web, "db": db, "db.back": db, "web.back": "", "nobody": "",
	} {
		if got := getent("asks", name); got != want {
			t.Errorf("getent %s: %q, want %q", name, got, want)
		}
	}
	for _, tc := range [][2]string{{"web", "linked"}, {"web", "db"}, {"db", "web"}, {"inside", "web"}} {
		if got := getent(tc[0], tc[1]); got != "" {
			t.Errorf("%s finds %s: %s", tc[0], tc[1], got)
		}
	}
	for args, want := range map[string]string{
		"dig +short -x " + web:     "web.front.",
		"dig +short +tcp web":      web,
		"dig +short +tcp -x " + db: "db.back.",
		"getent hosts " + db:       db + "       db.back",
		"dig +short AAAA web":      web6,
		"dig +short AAAA db":       "",
		"dig +short -x " + web6:    "web.front.",
	} {
		if out := e.Run(append([]string{"exec", "asks"}, strings.Fields(args)...)...); strings.Join(strings.Fields(out), " ") != strings.Join(strings.Fields(want), " ") {
			t.Errorf("%s: %q, want %q", args, out, want)
		}
	}
	if out := e.Run("exec", "asks", "busybox", "nslookup", "web"); !strings.Contains(out, "Address: "+web) {
		t.Errorf("nslookup: %s", out)
	}
	if out, _, code := e.Try("exec", "inside", "dig", "example.com"); !strings.Contains(out, "SERVFAIL") {
		t.Errorf("from an internal network: %d, %s", code, out)
	}
	first := map[string]int{}
	for range 8 {
		got, _, _ := strings.Cut(e.Run("exec", "asks", "dig", "+short", "pool"), "\n")
		first[got]++
	}
	if first[ip("pool1", "front")] != 4 || first[ip("pool2", "front")] != 4 {
		t.Errorf("the pool's first addresses: %v", first)
	}

	// What changes.
	docker("rename", "db", "store")
	if a, b := getent("asks", "store"), getent("asks", "db"); a != db || b != "" {
		t.Errorf("after a rename: %q and %q", a, b)
	}
	docker("rename", "store", "db")
	docker("network", "disconnect", "back", "asks")
	if got := getent("asks", "db"); got != "" {
		t.Errorf("after leaving the network: %q", got)
	}
	docker("network", "connect", "--alias", "other", "back", "asks")
	if a, b := getent("asks", "db"), getent("db", "other"); a != db || b != ip("asks", "back") {
		t.Errorf("back on the network: %q and %q", a, b)
	}
	docker("stop", "-t", "0", "web")
	if got := getent("asks", "web"); got != "" {
		t.Errorf("a container that has stopped: %q", got)
	}
	docker("start", "web")
	if got := getent("asks", "web"); got != ip("web", "front") {
		t.Errorf("started again: %q", got)
	}
	// A container of the default bridge has names once it is on another network.
	start("late")
	if resolv := e.Run("exec", "late", "cat", "/etc/resolv.conf"); strings.Contains(resolv, "127.0.0.11") {
		t.Errorf("on the default bridge: %s", resolv)
	}
	docker("network", "connect", "front", "late")
	if got, resolv := getent("late", "web"), e.Run("exec", "late", "cat", "/etc/resolv.conf"); got != ip("web", "front") || !strings.Contains(resolv, "nameserver 127.0.0.11\n") {
		t.Errorf("connected later: %q, %s", got, resolv)
	}
	docker("network", "disconnect", "front", "late")
	if resolv := e.Run("exec", "late", "cat", "/etc/resolv.conf"); strings.Contains(resolv, "127.0.0.11") {
		t.Errorf("on the default bridge again: %s", resolv)
	}

	prober := newProber(t, docker("inspect", "-f", "{{.State.Pid}}", "asks"), "db.", db)
	e.Stop()
	e.Launch()
	e.Kill()
	prober.more(100)
	e.Launch()
	docker("restart", "-t", "0", "pool1")
	prober.end()
	if got := getent("asks", "pool1"); got != ip("pool1", "front") {
		t.Errorf("after the restarts: %q", got)
	}

	// Without its supervisor, the daemon makes another one answer.
	if err := syscall.Kill(e.Supervisor(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	become(t, "names with another supervisor", func() bool { return quick("asks", "db") == db && quick("web", "pool1") == ip("pool1", "front") })
	// Both lost at once.
	sup := e.Supervisor()
	e.Kill()
	if err := syscall.Kill(sup, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	e.Launch()
	become(t, "names after the loss of both", func() bool { return quick("asks", "db") == db })
}

// become waits for what nobody tells of.
func become(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(need.Patience(30 * time.Second)); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not so", what)
		}
	}
}

// prober asks a container's name server all the time.
type prober struct {
	t    *testing.T
	stop chan struct{}
	done sync.WaitGroup
	tick chan struct{}
}

func newProber(t *testing.T, pid, name, want string) *prober {
	t.Helper()
	ns, err := os.Open("/proc/" + pid + "/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	var c net.Conn
	if err := netns.Do(ns, func() (err error) {
		c, err = net.Dial("udp4", "127.0.0.11:53")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	p := &prober{t: t, stop: make(chan struct{}), tick: make(chan struct{})}
	p.done.Go(func() {
		defer c.Close()
		n := 0
		for ; ; n++ {
			select {
			case <-p.stop:
				t.Logf("%d questions", n)
				return
			case p.tick <- struct{}{}:
			default:
			}
			if got, err := askOnce(c, name); err != nil || got != want {
				t.Errorf("question %d: %q, %v", n, got, err)
				return
			}
		}
	})
	return p
}

// more waits for so many questions.
func (p *prober) more(n int) {
	for range n {
		select {
		case <-p.tick:
		case <-time.After(2 * need.Patience(30*time.Second)):
			p.t.Error("the prober has stopped")
			return
		}
	}
}

func (p *prober) end() {
	close(p.stop)
	p.done.Wait()
}

func askOnce(c net.Conn, name string) (string, error) {
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: 1, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}
	msg, err := m.Pack()
	if err != nil {
		return "", err
	}
	if err := c.SetDeadline(time.Now().Add(need.Patience(30 * time.Second))); err != nil {
		return "", err
	}
	if _, err := c.Write(msg); err != nil {
		return "", err
	}
	in := make([]byte, 512)
	n, err := c.Read(in)
	if err != nil {
		return "", err
	}
	if err := m.Unpack(in[:n]); err != nil || len(m.Answers) != 1 {
		return "", fmt.Errorf("%d answers, %w", len(m.Answers), err)
	}
	a, _ := m.Answers[0].Body.(*dnsmessage.AResource)
	return net.IP(a.A[:]).String(), nil
}
