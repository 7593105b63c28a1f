package cli

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"lade/internal/cli/app"
	"lade/internal/cli/opt"
)

// space is text with its wrapping and alignment taken out: names of different
// length wrap lines at different words.
func space(s string) string { return strings.Join(strings.Fields(s), " ") }

// notOffered are flags of Docker's for what lade does not have (swarm, the
// legacy builder), and commands whose help speaks of them.
func notOffered() map[string]bool {
	return map[string]bool{
		"volume create": true, "volume ls": true, "build": true, "image build": true,
		"volume": true,
		// Docker says "Swarm secrets".
		"secret": true, "config": true,
		// Docker prints the end of its builder before everything.
		"builder build": true,
		// Docker does not have these.
		"volume clone": true, "volume export": true, "volume import": true, "volume rename": true, "volume snapshot": true,
		"system": true, "system reclaim": true,
	}
}

// TestHelp compares the help of every command with Docker's, word by word.
func TestHelp(t *testing.T) {
	f := newFake(t)
	r := newRoot(app.New(nil, io.Discard, io.Discard))
	var walk func(c *cobra.Command, path []string)
	walk = func(c *cobra.Command, path []string) {
		for _, s := range c.Commands() {
			spec := r.specs[s]
			if spec == nil {
				continue
			}
			if spec.Own {
				s.Hidden = true
				continue
			}
			walk(s, append(path[:len(path):len(path)], s.Name()))
		}
		name := strings.Join(path, " ")
		if len(path) == 0 || notOffered()[name] {
			return
		}
		t.Run(name, func(t *testing.T) {
			out := f.docker(t, "", append(path, "--help")...).Stdout
			r.build(c)
			c.Flags().VisitAll(func(f *pflag.Flag) { f.Hidden = f.Hidden || opt.IsOwn(f) })
			var b strings.Builder
			r.help(c, &b)
			// The examples are ours.
			mine, _, _ := strings.Cut(b.String(), "\nExamples:\n")
			d, l := space(out), space(asDocker(mine))
			if d != l {
				t.Errorf("docker %s\nlade   %s", d, l)
			}
		})
	}
	walk(r.Command, nil)
}

// TestCommands asserts that every command of Docker's is there, but for what
// belongs to a swarm, to plugins or to content trust.
func TestCommands(t *testing.T) {
	f := newFake(t)
	r := newRoot(app.New(nil, io.Discard, io.Discard))
	name := regexp.MustCompile(`(?m)^  (\w[\w-]*)\*? +[A-Z]`)
	lists := regexp.MustCompile(`(?ms)^[\w ]*Commands:\n.*?\n\n`)
	seen := 0
	var walk func(path []string)
	walk = func(path []string) {
		t.Run(strings.Join(append([]string{"docker"}, path...), " "), func(t *testing.T) {
			help := f.docker(t, "", append(path[:len(path):len(path)], "--help")...).Stdout
			for _, m := range name.FindAllStringSubmatch(strings.Join(lists.FindAllString(help, -1), ""), -1) {
				below := append(path[:len(path):len(path)], m[1])
				full := strings.Join(below, " ")
				if slices.Contains(strings.Fields("checkpoint manifest node plugin service stack swarm trust"), m[1]) || full == "volume update" {
					continue
				}
				seen++
				c, rest := r.find(below)
				if len(rest) > 0 {
					t.Errorf("lade %s is missing", full)
				} else if c.HasSubCommands() {
					walk(below)
				}
			}
		})
	}
	walk(nil)
	if seen < 90 {
		t.Errorf("%d commands recognised in Docker's help", seen)
	}
}

// TestRunFlags asserts that run has every flag of Docker's, with the same
// shorthand and kind, whatever help says about it.
func TestRunFlags(t *testing.T) {
	out := newFake(t).docker(t, "", "run", "--help").Stdout
	r := newRoot(app.New(nil, io.Discard, io.Discard))
	c, _ := r.find([]string{"run"})
	r.build(c)
	n := 0
	for _, m := range regexp.MustCompile(`(?m)^  (?:-(\w), |    )--([\w-]+)(?: (\S+))?  `).FindAllStringSubmatch(out, -1) {
		n++
		f := c.Flags().Lookup(m[2])
		if f == nil {
			t.Errorf("--%s is missing", m[2])
			continue
		}
		kind := f.Value.Type()
		if kind == "bool" {
			kind = ""
		}
		kind = strings.TrimSuffix(kind, "64")
		if f.Shorthand != m[1] || kind != m[3] {
			t.Errorf("--%s: docker -%s %s, lade -%s %s", m[2], m[1], m[3], f.Shorthand, kind)
		}
	}
	if n < 90 {
		t.Errorf("%d flags recognised in Docker's help", n)
	}
	for _, hidden := range []string{"net", "net-alias", "dns-opt", "help"} {
		if c.Flags().Lookup(hidden) == nil {
			t.Errorf("--%s is missing", hidden)
		}
	}
}

// TestOutput compares what both clients print, and their exit codes, for the
// same answers of the engine.
func TestOutput(t *testing.T) {
	f := newFake(t)
	const tar = "testdata/flags/x.tar"
	const id = "f9b2ff0333a979876be2418c3a5b732dfe4e647867034ad097475c19f4aa6c65"
	for _, c := range []struct {
		line, stdin string
		exit        int
		startErr    string
	}{
		// lists
		{line: "ps"}, {line: "ps -a --no-trunc"}, {line: "ps -q"}, {line: "ps -s"}, {line: "ps --format json"}, {line: "ps --format {{.Names}}"},
		{line: "ps --format table|{{.ID}}\\t{{.Names}}\\t{{.Label|\"k\"}}\\t{{.Ports|||upper}}"}, {line: "ps --format {{json|.Names}}{{upper|.Image}}{{.LocalVolumes}}{{.Mounts}}{{.Networks}}{{.Platform}}"},
		{line: "ps --format {{title|.State}}:{{truncate|.ID|5}}:{{pad|.ID|2|3}}:{{join|(split|.Image|\"s\")|\"-\"}}{{println|.ID}}"}, {line: "ps --format {{"}, {line: "ps -q --format json"}, {line: "ps --format raw"}, {line: "ps --format {{.Size}}"},
		{line: "ps -n 2 --filter status=running -f label=a=b"}, {line: "ps -l"}, {line: "ps -f x"}, {line: "ps x"}, {line: "ps --nosuch"}, {line: "container ls -q"}, {line: "container list"}, {line: "container ps"},
		{line: "images"}, {line: "images -q"}, {line: "images --digests"}, {line: "images --no-trunc"}, {line: "images --format json"}, {line: "images --format {{.Repository}}:{{.Tag}}|{{.VirtualSize}}"}, {line: "image ls -a"}, {line: "images busybox:*"}, {line: "images --format raw"},
		{line: "history busybox"}, {line: "history -q --no-trunc busybox"}, {line: "history -H=false busybox"}, {line: "history --format {{.ID}}-{{.Comment}} busybox"},
		{line: "volume ls"}, {line: "volume ls -q"}, {line: "volume ls --format json"}, {line: "volume ls --format table|{{.Name}}\\t{{.Labels}}\\t{{.Mountpoint}}\\t{{.Links}}"},
		{line: "network ls"}, {line: "network ls -q --no-trunc"}, {line: "network ls --format {{.Name}}/{{.IPv6}}/{{.Internal}}/{{.Labels}}"}, {line: "network ls --format {{.CreatedAt}}"}, {line: "network list -f driver=bridge"},
		{line: "top full"}, {line: "top full -o pid,comm"}, {line: "diff full"}, {line: "port full"}, {line: "port full 80"}, {line: "port full 81/udp"}, {line: "port full 99"}, {line: "port full x"}, {line: "port nope"},
		{line: "stats --no-stream full"}, {line: "stats --no-stream --format {{.Name}}:{{.MemUsage}}:{{.PIDs}}:{{.ID}}:{{.Container}} full"}, {line: "stats --no-stream --no-trunc full"}, {line: "stats --no-stream nope"},
		{line: "system df"}, {line: "system df --format json"}, {line: "info"}, {line: "info --format {{.ServerVersion}}/{{.Driver}}"}, {line: "info --format {{json|.Swarm}}"}, {line: "info -f {{"},
		{line: "version --format {{.Server.Version}}-{{.Server.GitCommit}}-{{.Server.KernelVersion}}"},
		{line: "events --until 1"}, {line: "events --until 1 --format {{.Type}}-{{.Actor.ID}}"}, {line: "events --format {{.Nope}}"}, {line: "search busybox"}, {line: "search --no-trunc --format json busybox"}, {line: "search --limit 3 -f stars=1 busybox"},
		// inspect
		{line: "inspect full"}, {line: "inspect --format {{.State.Status}}/{{.Name}} full"}, {line: "inspect -f {{json|.Config.Cmd}} full"}, {line: "inspect -f json full"}, {line: "inspect full nope"}, {line: "inspect nope"}, {line: "inspect --type image full"}, {line: "inspect --type= full"}, {line: "inspect --type x full"},
		{line: "inspect -f {{.Nope}} full"}, {line: "inspect -f {{ full"}, {line: "inspect"}, {line: "inspect busybox"}, {line: "inspect -f {{.Id}} busybox"}, {line: "image inspect busybox"}, {line: "image inspect nope"}, {line: "container inspect -s full"}, {line: "container inspect nope"},
		{line: "inspect -f {{(index|(index|.NetworkSettings.Ports|\"80/tcp\")|0).HostPort}} full"}, {line: "inspect -f {{range|$k,$v:=.NetworkSettings.Networks}}{{$k}}={{$v.IPAddress}}{{end}} full"}, {line: "inspect -f {{.NetworkSettings.IPAddress}} full"}, {line: "inspect -f {{.HostConfig.Memory}},{{.State.StartedAt}},{{.Config.Labels}} full"},
		{line: "network inspect n1"}, {line: "network inspect -f {{.Driver}} n1"}, {line: "network inspect nope"}, {line: "volume inspect v1"}, {line: "volume inspect nope"}, {line: "inspect v1"}, {line: "inspect n1"},
		// run
		{line: "run busybox"}, {line: "run busybox", exit: 3}, {line: "run --rm busybox true", exit: 137}, {line: "run -d busybox"}, {line: "run -d --name x --rm busybox"}, {line: "run -i busybox cat", stdin: "hello\n"}, {line: "run -a stdin busybox cat", stdin: "hello\n"}, {line: "run -a stdout busybox"}, {line: "run -a stderr busybox"},
		{line: "run -it busybox"}, {line: "run -t busybox"}, {line: "run -d -a stdout busybox"}, {line: "run missing"}, {line: "run --pull never missing"}, {line: "run --pull always busybox"}, {line: "run -q missing"}, {line: "run --pull x busybox"}, {line: "run --name a busybox"}, {line: "run"}, {line: "run --nosuch"}, {line: "run Bad"},
		{line: "run busybox nosuchcmd", startErr: `exec: "nosuchcmd": executable file not found in $PATH`}, {line: "run busybox /etc", startErr: `exec: "/etc": is a directory: permission denied`}, {line: "run --rm busybox x", startErr: "port is already allocated"}, {line: "run -d busybox x", startErr: "no such file or directory"},
		{line: "run --cidfile /nonexist/cid busybox"}, {line: "run --cidfile " + tar + " busybox"}, {line: "run --restart x --rm busybox"}, {line: "run -e =x busybox"}, {line: "create missing"}, {line: "create --name a busybox"},
		// exec, attach, start, logs, wait
		{line: "exec full ls"}, {line: "exec full ls", exit: 5}, {line: "exec -i full cat", stdin: "in\n"}, {line: "exec -d full ls"}, {line: "exec -t full ls"}, {line: "exec -it full sh"}, {line: "exec nope ls"}, {line: "exec full"}, {line: "exec -e A=1 -w /x -u 0 --privileged full ls"},
		{line: "start " + id}, {line: "start nope"}, {line: "start a nope"}, {line: "start -a full"}, {line: "start -a full", exit: 7}, {line: "start -ai a b"}, {line: "logs full"}, {line: "logs -t --tail 5 --since 1m full"}, {line: "logs nope"}, {line: "logs"},
		// changes
		{line: "stop a b"}, {line: "stop -t 3 -s INT a"}, {line: "stop nope a"}, {line: "stop --time 3 a"}, {line: "kill -s HUP a"}, {line: "kill nope"}, {line: "restart a"}, {line: "pause a"}, {line: "unpause a"}, {line: "rename a b"}, {line: "rename nope b"}, {line: "rename a"}, {line: "rename a|  "},
		{line: "rm a"}, {line: "rm -fv a nope"}, {line: "rm nope"}, {line: "rm /"}, {line: "rm"}, {line: "update -m 64m --pids-limit 3 --restart always --cpus 1 a"}, {line: "update a"}, {line: "container prune -f"}, {line: "container prune", stdin: "n\n"}, {line: "container prune", stdin: "y\n"}, {line: "commit -m x -a y -c CMD|x full img1"},
		{line: "pull busybox"}, {line: "pull busybox:1"}, {line: "pull -q busybox"}, {line: "pull -a busybox"}, {line: "pull -a busybox:1"}, {line: "pull bad"}, {line: "pull Bad:Ref:x"}, {line: "pull --platform linux/arm64 ghcr.io/a/b@sha256:dc8a8ea997aae50df7614e17e2f73b90dbe4020d55806c12f2d8c387b203e236"}, {line: "push busybox"}, {line: "push -q busybox:1"},
		{line: "load -i " + tar}, {line: "load", stdin: "x"}, {line: "load -i /nonexist"}, {line: "import " + tar}, {line: "import - a:b", stdin: "x"}, {line: "import /nonexist"}, {line: "tag a b"}, {line: "tag a"}, {line: "rmi busybox:two"}, {line: "rmi none"}, {line: "rmi -f none"}, {line: "rmi"}, {line: "image prune -f"}, {line: "image prune -af"},
		{line: "volume create"}, {line: "volume create v -d local -o a=b --label x=y"}, {line: "volume rm v1 nope"}, {line: "volume prune -f"}, {line: "volume prune -af --filter label=x"}, {line: "volume prune", stdin: "\n"},
		{line: "network create n"}, {line: "network create --subnet 10.1.0.0/16 --gateway 10.1.0.1 --ip-range 10.1.2.0/24 --aux-address a=10.1.0.5 -o x=y --label l=m --internal --ipv6 n"}, {line: "network create --gateway 10.1.0.1 n"}, {line: "network create --subnet 10.1.0.0/16 --subnet 10.1.1.0/24 n"}, {line: "network create --subnet 10.1.0.0/16 --gateway 10.2.0.1 n"},
		{line: "network connect --ip 10.1.0.9 --alias x n1 c"}, {line: "network connect n1"}, {line: "network disconnect -f n1 c"}, {line: "network rm n1 nope"}, {line: "network rm -f nope"}, {line: "network prune -f"}, {line: "network prune", stdin: "y"}, {line: "system prune -f"}, {line: "system prune --volumes", stdin: "n\n"}, {line: "system prune -a --filter label=x --filter until=1h", stdin: "n\n"},
		// fields
		{line: "images --format {{.ID}},{{.Repository}},{{.Tag}},{{.Digest}},{{.Size}},{{.SharedSize}},{{.UniqueSize}},{{.Containers}},{{.CreatedAt}}"}, {line: "network ls --format {{.ID}},{{.Name}},{{.Driver}},{{.Scope}},{{.IPv4}},{{.Label|\"x\"}}"}, {line: "volume ls --format {{.Name}},{{.Driver}},{{.Scope}},{{.Mountpoint}},{{.Size}},{{.Availability}},{{.Group}},{{.Status}}"},
		{line: "history --format {{.ID}},{{.CreatedAt}},{{.CreatedBy}},{{.Size}} busybox"}, {line: "ps -a --format {{.ID}},{{.Image}},{{.Command}},{{.CreatedAt}},{{.Ports}},{{.State}},{{.Status}},{{.Size}},{{.Labels}}"},
		{line: "system df --format {{.Type}},{{.TotalCount}},{{.Active}},{{.Size}},{{.Reclaimable}}"}, {line: "system df -v --format json"}, {line: "system df -v"}, {line: "version --format {{.Nope}}"}, {line: "version --format {{.Client.Nope}}"}, {line: "version -f {{"}, {line: "info --format {{.Nope}}"}, {line: "info --format {{.ClientInfo.Context}}/{{.NCPU}}/{{.Name}}/{{.CgroupDriver}}"},
		{line: "stats --no-stream --format json full"}, {line: "search --format {{.Name}},{{.Description}},{{.StarCount}},{{.IsOfficial}} busybox"}, {line: "context use"}, {line: "context use nope"}, {line: "context inspect"}, {line: "context inspect nope"}, {line: "context ls --format json"}, {line: "context ls -q"}, {line: "context rm nope"}, {line: "context export nope"}, {line: "context update nope"},
		{line: "inspect --type plugin nope"}, {line: "inspect --type secret nope"}, {line: "container prune -f --filter nope"}, {line: "logs --tail x full"}, {line: "port full 80/udp"},
		// the rest
		{line: "nosuch"}, {line: "container nosuch"}, {line: "--nosuch ps"}, {line: "-H x -H y ps"}, {line: "login -u u --password-stdin reg.example.com:5000", stdin: "secret\n"}, {line: "login -p x -u"}, {line: "login --password-stdin"}, {line: "login"}, {line: "logout reg.example.com"}, {line: "--context a -H b ps"}, {line: "context show"}, {line: "context use default"}, {line: "context rm default"},
	} {
		name := c.line
		if c.startErr != "" {
			name += " fails"
		}
		t.Run(name, func(t *testing.T) {
			var args []string
			for a := range strings.FieldsSeq(strings.ReplaceAll(c.line, "|||", "\x02|\x02")) {
				a = strings.ReplaceAll(a, "\x02|\x02", "\x03")
				a = strings.ReplaceAll(a, "|", " ")
				args = append(args, strings.ReplaceAll(a, "\x03", " | "))
			}
			d, l := f.both(t, c.stdin, c.exit, c.startErr, args...)
			check(t, d, l)
		})
	}
}

// TestBodies compares what both clients ask for when they change something.
func TestBodies(t *testing.T) {
	f := newFake(t)
	for _, line := range []string{
		"network create --subnet 10.1.0.0/16 --gateway 10.1.0.1 --ip-range 10.1.2.0/24 --aux-address a=10.1.0.5 -o x=y --label l=m --internal n",
		"network connect --ip 10.1.0.9 --ip6 fd00::9 --link-local-ip 169.254.3.3 --alias x --link c:d --driver-opt a=b --gw-priority 2 n1 c",
		"network disconnect -f n1 c", "volume create -d local -o a=b --label x=y v", "update -m 64m --memory-swap -1 --pids-limit 3 --restart on-failure:2 --cpus 1 -c 5 a",
		"exec -e A=1 -w /x -u 0 --privileged full ls", "commit -m x -a y -p=false full img1:t", "stop -t 3 -s INT a", "rm -fvl a", "logs -ft --tail 5 --details full", "ps -a -n 3 -s -f status=exited",
		"pull --platform linux/arm64 busybox:1", "run --rm busybox", "run -d --rm busybox", "kill -s HUP a", "images -a -f dangling=true x", "image prune -af --filter label=x", "volume prune -af", "rmi -f --no-prune none", "import -m m -c CMD=x /dev/null a:b",
	} {
		t.Run(line, func(t *testing.T) {
			d, l := f.both(t, "", 0, "", strings.Fields(line)...)
			want := map[string]request{}
			for _, q := range d.Requests {
				want[q.Method+" "+q.Path] = q
			}
			for _, q := range l.Requests {
				w, ok := want[q.Method+" "+q.Path]
				if q.Path == "/_ping" {
					continue
				}
				if !ok {
					t.Errorf("only lade: %s", q)
					continue
				}
				if w.Query.Encode() != q.Query.Encode() {
					t.Errorf("%s %s: docker ?%s, lade ?%s", q.Method, q.Path, w.Query.Encode(), q.Query.Encode())
				}
				for _, x := range diff(meant(t, w.Body), meant(t, q.Body)) {
					t.Errorf("%s: %s", q.Path, x)
				}
			}
		})
	}
}

// TestStart measures the client as a process: it has to be there before a person
// or a script notices.
func TestStart(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a program")
	}
	f := newFake(t)
	bin := filepath.Join(t.TempDir(), "lade")
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags=-s -w", "-o", bin, "lade/cmd/lade")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	best := time.Hour
	for range 30 {
		cmd := exec.CommandContext(t.Context(), bin, "version", "--format", "{{.Server.Version}}")
		cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+f.socket)
		begin := time.Now()
		if out, err := cmd.Output(); err != nil || strings.TrimSpace(string(out)) != "29.7.2" {
			t.Fatalf("%v %q", err, out)
		}
		best = min(best, time.Since(begin))
	}
	t.Logf("lade version: best of 30 starts %s", best)
	if best > 20*time.Millisecond {
		t.Errorf("lade version takes %s at best", best)
	}
}

// meant is a body as path → value; values that say nothing are left out.
func meant(t *testing.T, body []byte) map[string]string {
	t.Helper()
	m := map[string]any{}
	if len(body) == 0 || body[0] != '{' {
		return nil
	}
	if err := json.Unmarshal(body, &m); err != nil {
		t.Fatal(err)
	}
	delete(m, "OnBuild")
	out := flat(m)
	for k, v := range out {
		if slices.Contains([]string{"null", `""`, "0", "false", "{}", "[]"}, v) {
			delete(out, k)
		}
	}
	return out
}
