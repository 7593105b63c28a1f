package e2e

import (
	"archive/tar"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"lade/internal/need"
	"lade/test/harness"
)

// TestFoundByJudges: what the integration tests of Docker's engine have found
// (`make conformance`), for every run of the tests.
func TestFoundByJudges(t *testing.T) {
	need.Root(t)
	e := harness.Start(t, harness.Apart()...)
	ask := func(method, path, body string) (int, string) {
		t.Helper()
		dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", e.Socket)
		}
		c := http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
		r, err := http.NewRequestWithContext(t.Context(), method, "http://lade"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		resp, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	refused := func(what, method, path, body, words string) {
		t.Helper()
		if code, got := ask(method, path, body); code != http.StatusBadRequest || !strings.Contains(got, words) {
			t.Errorf("%s: %d %s", what, code, got)
		}
	}

	// A network of packets that are too small for IPv6; an id before a name.
	id := e.Run("network", "create", "-o", "com.docker.network.driver.mtu=1200", "small")
	if got := e.Run("run", "--rm", "--network", "small", "lade/hello", "cat", "/sys/class/net/eth0/mtu"); got != "1200" {
		t.Errorf("mtu: %s", got)
	}
	e.Run("network", "create", id)
	e.Run("network", "rm", id)
	if got := e.Run("network", "ls", "-q", "--no-trunc", "--filter", "name="+id); got == "" || got == id {
		t.Errorf("the network with that name is gone: %q", got)
	}

	// An additional process: who runs it, how its output comes.
	e.Run("run", "-d", "--name", "web", "lade/hello", "sleep", "1000")
	refused("user", "POST", "/containers/web/exec", `{"Cmd":["id"],"User":"nobody-knows"}`, "unable to find user nobody-knows: no matching entries in passwd file")
	_, created := ask("POST", "/containers/web/exec", `{"Cmd":["echo","hi"],"Tty":true,"AttachStdout":true}`)
	exec := strings.Split(created, `"`)[3]
	if _, got := ask("POST", "/exec/"+exec+"/start", `{"Tty":false}`); got != "\x01\x00\x00\x00\x00\x00\x00\x04hi\r\n" {
		t.Errorf("framed output of a terminal: %q", got)
	}
	refused("size", "POST", "/exec/"+exec+"/resize?h=-1&w=1", "", "value out of range")
	refused("keys", "POST", "/containers/web/attach?stream=1&detachKeys=ctrl-A,a", "", "Invalid detach keys")

	// What a container cannot be made of.
	refused("variable", "POST", "/containers/create", `{"Image":"lade/hello","Env":["=x"]}`, "invalid environment variable: =x")
	refused("networks", "POST", "/v1.43/containers/create", `{"Image":"lade/hello","NetworkingConfig":{"EndpointsConfig":{"a":{},"b":{}}}}`, "Container cannot be created with multiple network endpoints: a, b")
	refused("namespace", "POST", "/containers/create", `{"Image":"lade/hello","HostConfig":{"PidMode":"container:nobody"}}`, "No such container: nobody")
	refused("tag", "POST", "/images/lade%2Fhello/tag?repo=sha256&tag=x", "", "refusing to create an ambiguous tag")
	refused("identity", "GET", "/images/json?identity=1", "", "identity requires manifests=1")

	// Files: of a part of a volume, of the root of a container.
	e.Run("run", "--rm", "-v", "parts:/v", "lade/hello", "mkdir", "/v/bin")
	if got := e.Run("run", "--rm", "--mount", "source=parts,target=/bin,volume-subpath=bin", "lade/hello", "ls", "/bin/ls"); got != "ls" {
		t.Errorf("filled from the image: %q", got)
	}
	e.Run("create", "--name", "still", "lade/hello")
	_, root := ask("GET", "/containers/still/archive?path=/.", "")
	if h, err := tar.NewReader(strings.NewReader(root)).Next(); err != nil || h.Name != "./" {
		t.Errorf("the root as .: %+v, %v", h, err)
	}
	if code, got := ask("GET", "/containers/web/archive?path=/etc/passwd/", ""); code != http.StatusBadRequest || !strings.Contains(got, "not a directory") {
		t.Errorf("a file as a directory: %d %s", code, got)
	}
	if got := e.Run("images", "-q", "--filter", "reference=docker.io/lade/hello"); got == "" {
		t.Error("an image by its whole name")
	}

	// The whole of a container that runs: its own files and volumes, and not what
	// the runtime mounts.
	e.Run("run", "-d", "--name", "busy", "-v", "parts:/parts", "lade/hello", "sh", "-c", "echo of the volume >/parts/file; while :; do true | true; done")
	need.Eventually(t, "a file in the volume", func() bool {
		out, _, _ := e.Try("exec", "busy", "cat", "/parts/file")
		return strings.Contains(out, "volume")
	})
	_, whole := ask("GET", "/containers/busy/archive?path=/", "")
	has := map[string]bool{}
	files := tar.NewReader(strings.NewReader(whole))
	h, err := files.Next()
	for ; err == nil; h, err = files.Next() {
		has[h.Name] = true
	}
	for name, want := range map[string]bool{
		"/parts/file": true, "/etc/hosts": true, "/bin/sh": true, "/dev/": true, "/proc/": true, "/sys/": true,
		"/dev/null": false, "/proc/self": false, "/sys/kernel/": false,
	} {
		if has[name] != want {
			t.Errorf("%s in the whole: %v", name, has[name])
		}
	}
	if err != io.EOF {
		t.Errorf("the whole of a container: %v", err)
	}
	e.Run("rm", "-f", "busy")

	// Names by a link: in lists, wherever a container is named, and as they change.
	e.Run("run", "-d", "--name", "linking", "--link", "web:site", "lade/hello", "sleep", "1000")
	names := func(want string) {
		t.Helper()
		for _, args := range [][]string{{"ps"}, {"ps", "--filter", "name=site$"}} {
			if got := e.Run(append(args, "--no-trunc", "--filter", "id="+e.Run("inspect", "-f", "{{.Id}}", "web"), "--format", "{{.Names}}")...); got != want {
				t.Errorf("%v: %s, want %s", args, got, want)
			}
		}
	}
	names("web,linking/site")
	if got := e.Run("ps", "--filter", "name=web", "--format", "{{.Names}}"); got != "web" {
		t.Errorf("short names: %s", got)
	}
	e.Run("rename", "linking", "linked")
	names("web,linked/site")
	for name, want := range map[string]string{"linked/site": "/web", "/linked/site": "/web", "web": "/web"} {
		if got := e.Run("inspect", "--type", "container", "-f", "{{.Name}}", name); got != want {
			t.Errorf("%s is %s", name, got)
		}
	}
	for _, name := range []string{"linking/site", "linked/other", "linked/site/site"} {
		if _, said, code := e.Try("inspect", "--type", "container", name); code != 1 || !strings.Contains(said, "No such container: "+name) {
			t.Errorf("%s: %d %s", name, code, said)
		}
	}
	e.Run("rm", "--link", "linked/site")
	if got := e.Run("ps", "--no-trunc", "--filter", "name=web", "--format", "{{.Names}}"); got != "web" {
		t.Errorf("names without the link: %s", got)
	}
	e.Run("rm", "-f", "linked")

	// Images until: from before then.
	e.Run("commit", "still", "dated:1")
	e.Run("commit", "still", "dated:2")
	made := e.Run("inspect", "-f", "{{.Created}}", "dated:2")
	if got := e.Run("images", "--filter", "reference=dated", "--filter", "until="+made, "--format", "{{.Tag}}"); got != "1" {
		t.Errorf("images until %s: %s", made, got)
	}
	e.Run("rmi", "dated:2", "dated:1")

	// Below a read-only bind, before 1.44 and since; no limit of processes any more.
	for version, want := range map[string]string{"v1.43": " /dev/shm rw,", "v1.44": " /dev/shm ro,"} {
		_, got := ask("POST", "/"+version+"/containers/create?name="+version, `{"Image":"lade/hello","Cmd":["grep","/dev/shm","/proc/self/mountinfo"],"HostConfig":{"Binds":["/dev:/dev:ro"]}}`)
		if out := e.Run("start", "-a", version); !strings.Contains(out, want) {
			t.Errorf("-v of %s: %s\n%s", version, got, out)
		}
		e.Run("rm", version)
	}
	e.Run("update", "--pids-limit", "32", "web")
	e.Run("update", "--pids-limit", "0", "web")
	if got := e.Run("inspect", "-f", "{{.HostConfig.PidsLimit}}", "web"); got != "0" {
		t.Errorf("limit of processes: %s", got)
	}

	// What removes itself keeps its files over a restart, and goes with a stop.
	e.Run("run", "-d", "--rm", "--name", "passing", "-v", "/anonymous", "lade/hello", "sleep", "1000")
	e.Run("exec", "passing", "sh", "-c", "echo one >/own; echo two >/anonymous/file; rm /etc/passwd; mkdir /dir")
	e.Run("restart", "-t", "0", "passing")
	e.Run("exec", "passing", "sh", "-c", "mkdir /dir/more")
	e.Run("restart", "-t", "0", "passing")
	if got := e.Run("exec", "passing", "sh", "-c", "cat /own /anonymous/file; ls /dir; [ -e /etc/passwd ] || echo gone"); got != "one\ntwo\nmore\ngone" {
		t.Errorf("after restarts: %s", got)
	}
	e.Run("stop", "-t", "0", "passing")
	need.Eventually(t, "passing is gone", func() bool { _, _, code := e.Try("inspect", "passing"); return code != 0 })
	e.Run("rm", "-f", "web", "still")
	e.Run("volume", "rm", "parts")
}
