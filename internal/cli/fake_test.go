package cli

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lade/internal/cli/app"
	"lade/internal/need"
)

// exchange is a request and an answer recorded from a real engine.
type exchange struct {
	Method, URL string
	Status      int
	Body        json.RawMessage
}

// request is what a client sent.
type request struct {
	Method, Path string
	Query        url.Values      `json:",omitempty"`
	Body         json.RawMessage `json:",omitempty"`
}

func (r request) String() string { return r.Method + " " + r.Path + "?" + r.Query.Encode() }

// fake is an engine that answers what was recorded and remembers what it was
// asked. Containers whose image or command says so behave specially, see create.
type fake struct {
	t      *testing.T
	socket string
	answer map[string]exchange

	recorded map[string]result

	mu       sync.Mutex
	requests []request
	pulled   bool
	exit     int    // status of the next container
	startErr string // error of the next start
	started  chan struct{}
}

// update runs Docker's own client and records how it ends.
var update = flag.Bool("update", false, "record what docker 28.2.2 on PATH does")

// version is the prefix of a path that names the API's version.
var version = regexp.MustCompile(`^/v1\.\d+`)

func TestMain(m *testing.M) {
	flag.Parse()
	time.Local = time.UTC // times are printed in the local zone
	os.Exit(m.Run())
}

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{t: t, answer: map[string]exchange{}, started: make(chan struct{})}
	files, err := filepath.Glob("testdata/golden/*.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var e exchange
		if err := json.Unmarshal(b, &e); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		u, err := url.Parse(version.ReplaceAllString(e.URL, ""))
		if err != nil {
			t.Fatal(err)
		}
		f.answer[e.Method+" "+u.Path] = e
	}
	f.record(t)
	dir, err := os.MkdirTemp("", "ladetest") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	f.socket = filepath.Join(dir, "s")
	need.ServeHTTP(t, f.socket, f)
	return f
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	p := version.ReplaceAllString(r.URL.Path, "")
	f.mu.Lock()
	f.requests = append(f.requests, request{r.Method, p, r.URL.Query(), body})
	f.mu.Unlock()
	w.Header().Set("Api-Version", "1.50")
	w.Header().Set("Ostype", "linux")
	w.Header().Set("Server", "Docker/29.7.2 (linux)")
	w.Header().Set("Content-Type", "application/json")
	part := strings.Split(strings.Trim(p, "/"), "/")
	last := part[len(part)-1]
	switch {
	case p == "/_ping":
		return
	case p == "/containers/create":
		f.create(w, r, body)
	case part[0] == "containers" && (last == "attach"), part[0] == "exec" && last == "start":
		f.hijack(w, r.URL.Query(), body)
	case part[0] == "containers" && last == "wait":
		f.wait(w)
	case part[0] == "containers" && last == "start" && part[1] != "nope":
		f.start(w)
	case part[0] == "containers" && last == "exec":
		f.reply(w, 201, `{"Id":"e1"}`)
	case part[0] == "exec" && last == "json":
		f.reply(w, 200, fmt.Sprintf(`{"ID":"e1","Running":false,"ExitCode":%d}`, f.exit))
	case part[0] == "containers" && slices.Contains([]string{"stop", "kill", "restart", "pause", "unpause", "rename", "resize"}, last):
		if part[1] == "nope" {
			f.reply(w, 404, `{"message":"No such container: nope"}`)
			return
		}
		w.WriteHeader(204)
	case part[0] == "containers" && last == "update":
		f.reply(w, 200, `{"Warnings":["a warning"]}`)
	case part[0] == "containers" && last == "logs":
		w.Header().Set("Content-Type", "application/vnd.docker.multiplexed-stream")
		_, _ = w.Write(frames(true, true))
	case p == "/images/create" && r.Method == "POST":
		f.pull(w, r)
	case part[0] == "images" && last == "tag":
		w.WriteHeader(201)
	case p == "/images/load":
		f.reply(w, 200, `{"stream":"Loaded image: busybox:latest\n"}`+"\n"+`{"stream":"Loaded image: busybox:two\n"}`)
	case part[0] == "images" && last == "push":
		f.reply(w, 200, `{"status":"The push refers to repository [docker.io/library/busybox]"}`+"\n"+`{"errorDetail":{"message":"denied"},"error":"denied"}`)
	case r.Method == "DELETE" && part[0] == "containers" && part[1] != "nope":
		w.WriteHeader(204)
	case r.Method == "DELETE" && slices.Contains([]string{"volumes", "networks"}, part[0]) && part[1] != "nope":
		w.WriteHeader(204)
	case p == "/containers/prune":
		f.reply(w, 200, `{"ContainersDeleted":["c1","c2"],"SpaceReclaimed":2048}`)
	case p == "/volumes/prune":
		f.reply(w, 200, `{"VolumesDeleted":["v1"],"SpaceReclaimed":1000}`)
	case p == "/networks/prune":
		f.reply(w, 200, `{"NetworksDeleted":["n1","n2"]}`)
	case p == "/build/prune":
		f.reply(w, 200, `{"CachesDeleted":null,"SpaceReclaimed":0}`)
	case p == "/volumes/create" || p == "/networks/create":
		var v struct{ Name string }
		_ = json.Unmarshal(body, &v)
		if v.Name == "" {
			v.Name = "anonymous"
		}
		f.reply(w, 201, fmt.Sprintf(`{"Name":%q,"Id":"id-of-%s"}`, v.Name, v.Name))
	case part[0] == "networks" && (last == "connect" || last == "disconnect"):
		w.WriteHeader(200)
	case p == "/events":
		f.reply(w, 200, `{"status":"create","id":"f46d038731e3","from":"busybox","Type":"container","Action":"create","Actor":{"ID":"f46d038731e3","Attributes":{"image":"busybox","name":"vv"}},"scope":"local","time":1795426932,"timeNano":1795426932225540900}`+"\n")
	case p == "/commit":
		f.reply(w, 201, `{"Id":"sha256:aa7411294a42"}`)
	case p == "/auth":
		f.reply(w, 200, `{"Status":"Login Succeeded","IdentityToken":""}`)
	case p == "/images/search":
		f.reply(w, 200, `[{"star_count":3,"is_official":true,"name":"busybox","is_automated":false,"description":"Busybox base image, with a description that is rather too long."}]`)
	default:
		e, ok := f.answer[r.Method+" "+p]
		if !ok {
			f.reply(w, 404, fmt.Sprintf(`{"message":"No such %s: %s"}`, strings.TrimSuffix(part[0], "s"), part[min(1, len(part)-1)]))
			return
		}
		// What was made long ago is always three hours old.
		made := regexp.MustCompile(`"Created": \d+`)
		f.reply(w, e.Status, made.ReplaceAllString(string(e.Body), fmt.Sprintf(`"Created": %d`, time.Now().Add(-3*time.Hour-time.Minute).Unix())))
	}
}

func (f *fake) reply(w http.ResponseWriter, status int, body string) {
	if status != 0 { // 0: the header is out
		w.WriteHeader(status)
	}
	_, _ = io.WriteString(w, body)
}

const newID = "14e7d9d1fd2e0c1677f02682d9798ac50694e4152c20a1135632117804cb406d"

func (f *fake) create(w http.ResponseWriter, r *http.Request, body []byte) {
	var c struct{ Image string }
	_ = json.Unmarshal(body, &c)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.started = make(chan struct{})
	switch {
	case c.Image == "missing" && !f.pulled:
		f.reply(w, 404, `{"message":"No such image: missing:latest"}`)
	case r.URL.Query().Get("name") == "a":
		f.reply(w, 400, `{"message":"Invalid container name (a), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"}`)
	default:
		f.reply(w, 201, `{"Id":"`+newID+`","Warnings":["created with a warning"]}`)
	}
}

func (f *fake) pull(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.pulled = true
	f.mu.Unlock()
	if r.URL.Query().Get("fromSrc") != "" {
		f.reply(w, 200, `{"status":"sha256:dc8a8ea997aae50df7614e17e2f73b90dbe4020d55806c12f2d8c387b203e236"}`)
		return
	}
	if strings.HasSuffix(r.URL.Query().Get("fromImage"), "/bad") {
		f.reply(w, 404, `{"message":"pull access denied for bad, repository does not exist or may require 'docker login'"}`)
		return
	}
	for _, l := range []string{
		`{"status":"Pulling from library/busybox","id":"latest"}`,
		`{"status":"Pulling fs layer","progressDetail":{},"id":"aaaaaaaaaaaa"}`,
		`{"status":"Downloading","progressDetail":{"current":512,"total":1024},"progress":"[====>  ]","id":"aaaaaaaaaaaa"}`,
		`{"status":"Pull complete","progressDetail":{},"id":"aaaaaaaaaaaa"}`,
		`{"status":"Digest: sha256:dc8a8ea997aae50df7614e17e2f73b90dbe4020d55806c12f2d8c387b203e236"}`,
		`{"status":"Status: Downloaded newer image for busybox:latest"}`,
	} {
		_, _ = io.WriteString(w, l+"\r\n")
	}
}

func (f *fake) start(w http.ResponseWriter) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.startErr != "" {
		f.reply(w, 400, fmt.Sprintf(`{"message":%q}`, f.startErr))
	} else {
		w.WriteHeader(204)
	}
	select {
	case <-f.started:
	default:
		close(f.started)
	}
}

func (f *fake) wait(w http.ResponseWriter) {
	f.mu.Lock()
	started, exit := f.started, f.exit
	f.mu.Unlock()
	w.WriteHeader(200)
	_ = http.NewResponseController(w).Flush()
	<-started
	f.reply(w, 0, fmt.Sprintf(`{"StatusCode":%d}`, exit))
}

// frames is an output as the engine multiplexes it.
func frames(out, errOut bool) []byte {
	var b bytes.Buffer
	for _, s := range []struct {
		stream byte
		text   string
	}{{1, "out\n"}, {2, "err\n"}, {1, "more\n"}} {
		if s.stream == 1 && !out || s.stream == 2 && !errOut {
			continue
		}
		h := make([]byte, 8)
		h[0] = s.stream
		binary.BigEndian.PutUint32(h[4:], uint32(len(s.text)))
		b.Write(h)
		b.WriteString(s.text)
	}
	return b.Bytes()
}

// hijack answers like attach: it echoes the input, if there is one, after the
// fixed output, and ends with the input.
func (f *fake) hijack(w http.ResponseWriter, q url.Values, body []byte) {
	f.mu.Lock()
	started := f.started
	f.mu.Unlock()
	var o struct{ Tty, Detach bool }
	_ = json.Unmarshal(body, &o)
	if o.Detach {
		w.WriteHeader(200)
		return
	}
	c, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		f.t.Error(err)
		return
	}
	defer c.Close()
	_, _ = rw.WriteString("HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.multiplexed-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
	_ = rw.Flush()
	if len(body) == 0 { // attach: output comes once the container runs
		<-started
		f.mu.Lock()
		failed := f.startErr != ""
		f.mu.Unlock()
		if failed {
			return
		}
	}
	if o.Tty {
		_, _ = c.Write([]byte("tty\r\n"))
	} else {
		_, _ = c.Write(frames(!q.Has("stderr") || q.Has("stdout"), !q.Has("stdout") || q.Has("stderr")))
	}
	in, _ := io.ReadAll(bufio.NewReader(rw))
	if len(in) > 0 && !o.Tty {
		h := []byte{1, 0, 0, 0, 0, 0, 0, byte(len(in))}
		_, _ = c.Write(append(h, in...))
	}
}

// result is how a client ended.
type result struct {
	Stdout, Stderr string    `json:",omitempty"`
	Code           int       `json:",omitempty"`
	Requests       []request `json:",omitempty"`
}

func (f *fake) reset(exit int, startErr string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests, f.pulled, f.exit, f.startErr = nil, false, exit, startErr
	f.started = make(chan struct{})
}

func (f *fake) asked() []request {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.requests)
}

// both gives the same arguments to Docker's client (or what is recorded of it)
// and to ours.
func (f *fake) both(t *testing.T, stdin string, exit int, startErr string, args ...string) (docker, lade result) {
	t.Helper()
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	t.Setenv("DOCKER_HOST", "unix://"+f.socket)
	t.Setenv("LADE_HOST", "")
	f.reset(exit, startErr)
	docker = f.docker(t, stdin, args...)
	f.reset(exit, startErr)
	return docker, f.lade(stdin, args...)
}

// docker is how Docker's client ends with these arguments. It is taken from the
// recording unless -update asks to run it.
func (f *fake) docker(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	if !*update {
		r, ok := f.recorded[t.Name()]
		if !ok {
			t.Fatal("nothing recorded; run the tests with -update where docker 28.2.2 is on PATH")
		}
		return r
	}
	bin := need.Program(t, "docker", "docker-cli 28.2.2")
	cmd := exec.CommandContext(t.Context(), bin, args...)
	cmd.Env = append(os.Environ(), "DOCKER_CLI_HINTS=false", "TZ=UTC")
	var out, errOut bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errOut
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	r := f.steady(result{out.String(), errOut.String(), cmd.ProcessState.ExitCode(), f.asked()})
	if strings.HasPrefix(t.Name(), "TestOutput") || strings.HasPrefix(t.Name(), "TestWords") {
		r.Requests = nil
	}
	f.recorded[t.Name()] = r
	return r
}

func (f *fake) lade(stdin string, args ...string) result {
	var out, errOut bytes.Buffer
	code := Main(append([]string{"lade"}, args...), strings.NewReader(stdin), &out, &errOut)
	return f.steady(result{out.String(), errOut.String(), code, f.asked()})
}

// steady replaces what differs from run to run by words of the same length.
func (f *fake) steady(r result) result {
	wd, _ := os.Getwd()
	stamp := regexp.MustCompile(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \+0000 UTC`)
	iso := regexp.MustCompile(`20[2-9]\d-\d\d-\d\dT\d\d:\d\d:\d\dZ`)
	clean := func(s string) string {
		s = stamp.ReplaceAllString(s, "2006-01-02 15:04:05 +0000 UTC")
		s = strings.Replace(s, " Version:    "+app.Version+"\n", " Version:    28.2.2\n", 1)
		// Docker's come from a map.
		s = strings.Replace(s, "io.containerd.runc.v2 runc\n", "runc io.containerd.runc.v2\n", 1)
		s = iso.ReplaceAllString(s, "2006-01-02T15:04:05Z")
		if dir := os.Getenv("DOCKER_CONFIG"); dir != "" {
			s = strings.ReplaceAll(s, dir, "$CONFIG")
		}
		return strings.ReplaceAll(strings.ReplaceAll(s, filepath.Dir(wd), "$PARENT"), f.socket, "$SOCKET")
	}
	r.Stdout, r.Stderr = clean(r.Stdout), clean(r.Stderr)
	for i := range r.Requests {
		q := &r.Requests[i]
		var v any
		if q.Method != "POST" || json.Unmarshal(q.Body, &v) != nil {
			q.Body = nil
			continue
		}
		b, _ := json.Marshal(meaning(v))
		q.Body = json.RawMessage(clean(string(b)))
	}
	return r
}

// meaning leaves out values that say nothing: null, "", 0, false, {}.
func meaning(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			switch x = meaning(x); x {
			case nil, "", 0.0, false:
				delete(v, k)
			default:
				v[k] = x
			}
		}
		if len(v) == 0 {
			return nil
		}
	case []any:
		for i, x := range v {
			v[i] = meaning(x)
		}
		return list(v)
	}
	return v
}

// list is comparable, unlike []any, so that a switch over values may meet it.
func list(v []any) any { return &v }

const recording = "testdata/docker-28.2.2.json"

// record reads the recording, and writes it anew after the test with -update.
func (f *fake) record(t *testing.T) {
	f.recorded = map[string]result{}
	b, err := os.ReadFile(recording)
	if err == nil {
		err = json.Unmarshal(b, &f.recorded)
	}
	if err != nil && !*update {
		t.Fatal(err)
	}
	if !*update {
		return
	}
	t.Cleanup(func() {
		// A line a command, so that a change shows as one.
		var b bytes.Buffer
		for i, name := range slices.Sorted(maps.Keys(f.recorded)) {
			line, err := json.Marshal(f.recorded[name])
			if err != nil {
				t.Error(err)
			}
			fmt.Fprintf(&b, "%s%q: %s", map[bool]string{true: "{\n", false: ",\n"}[i == 0], name, line)
		}
		b.WriteString("\n}\n")
		if err := os.WriteFile(recording, b.Bytes(), 0o644); err != nil {
			t.Error(err)
		}
	})
}

// check compares what a user sees.
func check(t *testing.T, docker, lade result) {
	t.Helper()
	if docker.Code != lade.Code {
		t.Errorf("exit code: docker %d, lade %d", docker.Code, lade.Code)
	}
	if docker.Stdout != lade.Stdout {
		t.Errorf("stdout\ndocker %q\nlade   %q", docker.Stdout, lade.Stdout)
	}
	// Docker's client prints warnings of its own as log lines.
	warning := regexp.MustCompile(`time="[^"]*" level=warning msg="(.*)"`)
	d, l := warning.ReplaceAllString(docker.Stderr, "WARNING: $1"), asDocker(lade.Stderr)
	if d != l {
		t.Errorf("stderr\ndocker %q\nlade   %q", d, l)
	}
}

// asDocker is a text of ours in Docker's name.
func asDocker(s string) string { return strings.ReplaceAll(s, "lade", "docker") }

// created is the body of the create request, decoded, nil without one.
func created(t *testing.T, r result) map[string]any {
	t.Helper()
	for _, q := range r.Requests {
		if q.Method == "POST" && q.Path == "/containers/create" {
			m := map[string]any{}
			if err := json.Unmarshal(q.Body, &m); err != nil {
				t.Fatal(err)
			}
			return m
		}
	}
	return nil
}

// flat turns nested objects into path → JSON.
func flat(m map[string]any) map[string]string {
	out := map[string]string{}
	var walk func(prefix string, v any)
	walk = func(prefix string, v any) {
		if m, ok := v.(map[string]any); ok && len(m) > 0 {
			for k, x := range m {
				walk(prefix+"."+k, x)
			}
			return
		}
		b, _ := json.Marshal(v)
		out[strings.TrimPrefix(prefix, ".")] = string(b)
	}
	walk("", m)
	return out
}

func diff(a, b map[string]string) (out []string) {
	keys := maps.Clone(a)
	maps.Copy(keys, b)
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		if a[k] != b[k] {
			out = append(out, fmt.Sprintf("%s: docker %s, lade %s", k, a[k], b[k]))
		}
	}
	return out
}
