package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"lade/internal/need"
	"lade/test/harness"
)

// commands are what scripts have beside testscript's own:
//
//	code N program args…   the program exits with N
//	both args…             lade and docker print and exit the same
//	eventually program …   the program succeeds within ten seconds
//	nothing                the engine has no container, volume or anything of one
//	fetch URL              an HTTP GET from the host
//	udp ADDRESS WORD       a datagram from the host; the answer is stdout
//	listen NETWORK ADDRESS a program of the host has the port until the script ends
//	mkimage KIND FILE …    an image archive (archive_test.go)
//	interrupt              ctrl-c for what runs in the background, until it leaves
//	rate CONTAINER IN OUT  how fast it receives and sends (rates_test.go)
//	busybox                imports lade-test/busybox, a user land in C
var commands = map[string]func(ts *testscript.TestScript, neg bool, args []string){
	"code": code, "both": both, "eventually": eventually, "nothing": nothing, "fetch": fetch, "udp": udp, "listen": listen,
	"mkimage": mkimage, "busybox": busybox, "interrupt": interrupt, "rate": rate,
}

// exitCode tells how a program ended; -1 if it did not run.
func exitCode(err error) int {
	if err == nil {
		return 0
	}
	if ee, ok := errors.AsType[*exec.ExitError](err); ok {
		return ee.ExitCode()
	}
	return -1
}

func code(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N program args...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	if got := exitCode(ts.Exec(args[1], args[2:]...)); got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

func eventually(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 0 {
		ts.Fatalf("usage: [!] eventually program args...")
	}
	for end := time.Now().Add(need.Patience(30 * time.Second)); ; time.Sleep(50 * time.Millisecond) {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir = ts.MkAbs(".")
		for _, name := range []string{"PATH", "DOCKER_HOST", "LADE_HOST", "LADE_AUTOSTART", "HOME", "CLI", "WORK"} {
			cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
		}
		out, err := cmd.CombinedOutput()
		if (err == nil) != neg {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("%v\n%s", err, out)
		}
	}
}

// both runs a command line with both clients. They must exit with the same
// code and print the same, but for the program's name.
func both(ts *testscript.TestScript, neg bool, args []string) {
	type result struct {
		stdout, stderr string
		code           int
	}
	ids := regexp.MustCompile(`\([0-9a-f]{64}\)`) // of a container that was tried
	e := ts.Value(engine{}).(*harness.Engine)
	run := func(client string) result {
		cmd := e.Command(client, args...)
		// What an image's inspect shows depends on the version.
		cmd.Env = append(cmd.Env, "DOCKER_API_VERSION=1.50", "HOME="+ts.Getenv("HOME"))
		cmd.Dir = ts.MkAbs(".")
		var out, errOut bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errOut
		r := result{code: exitCode(cmd.Run()), stdout: out.String(), stderr: errOut.String()}
		if client == "docker" {
			names := strings.NewReplacer("docker:", "lade:", "docker ", "lade ", "'docker", "'lade", "DOCKER", "LADE")
			r.stdout, r.stderr = names.Replace(r.stdout), names.Replace(r.stderr)
		}
		r.stderr = ids.ReplaceAllString(r.stderr, "(id)")
		return r
	}
	docker, lade := run("docker"), run("lade")
	for range 3 { // "Up 1 second" may become "Up 2 seconds" in between
		if docker == lade {
			break
		}
		docker, lade = run("docker"), run("lade")
	}
	fmt.Fprint(ts.Stdout(), lade.stdout)
	fmt.Fprint(ts.Stderr(), lade.stderr)
	ts.Logf("%s%s[exit code %d]", lade.stdout, lade.stderr, lade.code)
	if docker != lade {
		ts.Fatalf("docker:\n%s%s[exit code %d]", docker.stdout, docker.stderr, docker.code)
	}
	if (lade.code != 0) != neg {
		ts.Fatalf("exit code %d", lade.code)
	}
}

// nothing is what a failed or removed container must leave.
func nothing(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) > 0 {
		ts.Fatalf("usage: nothing")
	}
	e := ts.Value(engine{}).(*harness.Engine)
	left := leftovers(e)
	// Links and control groups go in the background.
	for end := time.Now().Add(need.Patience(30 * time.Second)); len(left) > 0 && time.Now().Before(end); left = leftovers(e) {
		time.Sleep(50 * time.Millisecond)
	}
	if len(left) > 0 {
		ts.Fatalf("left behind:\n%s", strings.Join(left, "\n"))
	}
}

// leftovers lists everything of containers, as files, groups and answers.
func leftovers(e *harness.Engine) (left []string) {
	for what, args := range map[string][]string{
		"container": {"ps", "-aq"}, "volume": {"volume", "ls", "-q"},
		"endpoint": {"network", "inspect", "-f", "{{range $id, $_ := .Containers}}{{$id}} {{end}}", "bridge", "host", "none"},
	} {
		out, stderr, code := e.Try(args...)
		if code != 0 {
			left = append(left, "lade "+strings.Join(args, " ")+": "+stderr)
		}
		for id := range strings.FieldsSeq(out) {
			left = append(left, what+" "+id)
		}
	}
	for _, pattern := range []string{"data/containers/*", "data/volumes/*", "data/content/ingest/*", "exec/exits/*", "exec/groups/*"} {
		found, err := filepath.Glob(filepath.Join(e.Dir, pattern))
		if err == nil {
			left = append(left, found...)
		}
	}
	// A writable layer's key has the kind "a" after its size of the name.
	keys, err := os.ReadDir(filepath.Join(e.Dir, "data/overlay2/keys"))
	if err == nil {
		for _, k := range keys {
			if f := strings.Split(k.Name(), "."); len(f) > 3 && f[3] == "a" {
				left = append(left, "snapshot "+k.Name())
			}
		}
	}
	groups, err := filepath.Glob("/sys/fs/cgroup/*/" + e.Group() + "/*")
	if err == nil {
		for _, g := range groups {
			if fi, err := os.Stat(g); err == nil && fi.IsDir() {
				left = append(left, g)
			}
		}
	}
	slices.Sort(left)
	return left
}

func fetch(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: [!] fetch URL")
	}
	client := &http.Client{Timeout: need.Patience(30 * time.Second), Transport: &http.Transport{DisableKeepAlives: true}}
	var last error
	for end := time.Now().Add(need.Patience(30 * time.Second)); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		resp, err := client.Get(args[0])
		if err == nil {
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			ts.Check(err)
			if neg {
				ts.Fatalf("%s: %s", resp.Status, body)
			}
			fmt.Fprintf(ts.Stdout(), "%s", body)
			return
		}
		if last = err; neg {
			return
		}
	}
	ts.Fatalf("%v", last)
}

func udp(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: udp ADDRESS WORD")
	}
	c, err := net.Dial("udp", args[0])
	ts.Check(err)
	defer c.Close()
	buf := make([]byte, 1024)
	for end := time.Now().Add(need.Patience(30 * time.Second)); ; {
		_, err := fmt.Fprintln(c, args[1])
		if err == nil {
			c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
			var n int
			if n, err = c.Read(buf); err == nil {
				fmt.Fprintf(ts.Stdout(), "%s", buf[:n])
				return
			}
		}
		if time.Now().After(end) {
			ts.Fatalf("%v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func busybox(ts *testscript.TestScript, neg bool, args []string) {
	ts.Value(engine{}).(*harness.Engine).Import()
}

func interrupt(ts *testscript.TestScript, neg bool, args []string) {
	for range 3 { // docker leaves at the third
		for _, cmd := range ts.BackgroundCmds() {
			_ = cmd.Process.Signal(os.Interrupt) // it may have ended
		}
		time.Sleep(300 * time.Millisecond)
	}
}

func listen(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: listen tcp|udp ADDRESS")
	}
	var c io.Closer
	var err error
	if args[0] == "udp" {
		c, err = net.ListenPacket("udp", args[1])
	} else {
		c, err = net.Listen("tcp", args[1])
	}
	ts.Check(err)
	ts.Defer(func() { c.Close() })
}
