package conformance

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// composeFiles are what is done with each file of testdata/compose.
var composeFiles = map[string]func(*project){
	"shop": shop, "blog": blog, "queue": workers, "monitor": monitor, "legacy": legacy, "extended": extended,
}

// shop: health checks that others wait for, secrets, configs, limits.
func shop(p *project) {
	p.shows([]string{"config", "--services"}, "app", "cache", "db", "migrate", "proxy")
	p.do("config", "-q")
	p.up("--wait", "--quiet-pull", "app", "proxy")
	p.shows([]string{"ps", "--format", "{{.Service}} {{.State}} {{.Health}}"}, "app running healthy", "db running healthy", "proxy running")
	p.shows([]string{"ps", "-a", "--format", "{{.Service}} {{.State}} {{.ExitCode}}"}, "migrate exited 0")
	p.shows([]string{"ls"}, "shop", "running(4)")
	p.get("proxy", "80", "/", "visit 1, hit 1")
	p.get("proxy", "80", "/", "visit 2, hit 2")
	p.shows([]string{"logs", "migrate"}, "CREATE TABLE")
	p.shows([]string{"logs", "--no-log-prefix", "--tail", "5", "db"}, "ready to accept connections")
	p.shows([]string{"exec", "-T", "db", "psql", "-U", "shop", "-tAc", "select 'n', count(*) from visits"}, "n|2")
	p.ends(3, "exec", "-T", "app", "sh", "-c", "exit 3")
	p.shows([]string{"exec", "-T", "-u", "0", "-w", "/srv", "-e", "A=b", "app", "sh", "-c", "id -u; pwd; echo $A"}, "0\n/srv\nb\n")
	p.shows([]string{"exec", "-T", "db", "cat", "/run/secrets/db_password"}, "correct horse")
	p.shows([]string{"top", "cache"}, "redis-server")
	p.shows([]string{"images"}, "postgres", "redis", "nginx")
	p.shows([]string{"stats", "--no-stream", "proxy"}, "64MiB")
	p.ends(1, "exec", "-T", "app", "touch", "/srv/x")
	p.shows([]string{"exec", "-T", "cache", "cat", "/proc/sys/net/core/somaxconn"}, "512")
	// A network that is internal has no way out, others no way in.
	p.shows([]string{"exec", "-T", "db", "cat", "/proc/net/route"}, "eth0")
	p.ends(2, "exec", "-T", "proxy", "getent", "hosts", "database")
	p.shows([]string{"exec", "-T", "app", "getent", "hosts", "database"}, "database")
	// It restarts what depends on it, and its data stays.
	p.do("restart", "-t", "2", "cache")
	p.get("proxy", "80", "/", "visit 3")
	p.do("up", "-d", "--wait", "--force-recreate", "--no-deps", "db")
	p.get("proxy", "80", "/", "visit 4")
	p.do("pause", "cache")
	p.shows([]string{"ps", "--status", "paused", "--services"}, "cache")
	p.do("unpause", "cache")
	p.do("stop", "-t", "2", "proxy")
	p.do("start", "proxy")
	p.get("proxy", "80", "/", "visit 5")
	p.do("up", "-d", "--wait", "app", "proxy") // nothing to do
	p.do("cp", "app:/srv/app.py", "copied.py")
	p.do("cp", "db_password.txt", "proxy:/usr/share/nginx/html/secret.html")
	p.shows([]string{"exec", "-T", "proxy", "cat", "/usr/share/nginx/html/secret.html"}, "correct horse")
	p.shows([]string{"volumes"}, "shop_data")
	p.do("kill", "-s", "KILL", "cache")
	p.do("rm", "-f", "cache")
	p.do("down", "-t", "2")
	p.shows([]string{"up", "--no-start", "db"}, "Created")
	p.shows([]string{"ps", "-a", "--format", "{{.State}}"}, "created")
	p.do("down", "-v", "-t", "2")
	mine := []string{"-q", "--filter", "label=com.docker.compose.project=shop"}
	left := p.engine(append([]string{"volume", "ls"}, mine...)...) + p.engine(append([]string{"network", "ls"}, mine...)...)
	p.holds("down -v leaves nothing", left == "", left)
}

// blog: variables, files of variables, what is external.
func blog(p *project) {
	p.engine("network", "create", "--subnet", p.net()+".0/25", "conformance-shared")
	p.engine("volume", "create", "conformance-uploads")
	p.Cleanup(func() {
		p.engine("network", "rm", "conformance-shared")
		p.engine("volume", "rm", "conformance-uploads")
	})
	p.shows([]string{"config"}, "A blog", "Ada Lovelace", "nginx:1.22")
	p.up()
	p.until("Ada Lovelace", "exec", "-T", "web", "cat", "/usr/share/nginx/html/index.html")
	p.get("web", "80", "/", "<h1>A blog, Ada Lovelace</h1>")
	p.shows([]string{"exec", "-T", "web", "hostname", "-f"}, "blog.example.test")
	p.shows([]string{"exec", "-T", "web", "cat", "/etc/hosts"}, "192.0.2.7\tdb.example.test", p.net()+".10")
	p.shows([]string{"exec", "-T", "web", "cat", "/etc/resolv.conf"}, "example.test")
	p.ends(1, "exec", "-T", "web", "touch", "/usr/share/nginx/html/x")
	p.shows([]string{"exec", "-T", "web", "df", "-k", "/cache"}, "1024")
	p.shows([]string{"run", "--rm", "-T", "reader"}, "Ada Lovelace")
	p.shows([]string{"run", "--rm", "-T", "--no-deps", "-e", "X=y", "--entrypoint", "printenv", "reader", "X"}, "y")
	p.ends(4, "run", "--rm", "-T", "reader", "sh", "-c", "exit 4")
	p.shows([]string{"ps"}, "web")
	p.env = append(p.env, "TITLE=Another")
	p.do("up", "-d") // generate is made again
	p.get("web", "80", "/", "<h1>Another, Ada Lovelace</h1>")
	p.do("down", "-v", "-t", "2")
	p.holds("down leaves what is external", strings.Contains(p.engine("volume", "ls", "-q")+p.engine("network", "ls"), "conformance-shared"), "it is gone")
}

// workers: scaling, restarts, following.
func workers(p *project) {
	p.up()
	p.until("ready", "logs", "worker")
	count := func() int { return len(strings.Fields(p.do("ps", "-q", "worker"))) }
	n := count()
	p.holds("two replicas", n == 2, n)
	lines, stop := p.beside("logs", "-f", "--no-color", "worker")
	p.do("exec", "-T", "broker", "redis-cli", "rpush", "jobs", "alpha", "beta", "gamma")
	p.hears("logs -f", lines, "did gamma")
	stop()
	p.do("up", "-d", "--no-recreate", "--scale", "worker=4")
	n = count()
	p.holds("four workers", n == 4, n)
	p.until("worker", "ps")
	p.do("up", "-d", "--scale", "worker=1")
	n = count()
	p.holds("one worker", n == 1, n)
	p.do("exec", "-T", "broker", "redis-cli", "rpush", "jobs", "delta")
	p.until("did delta", "logs", "worker")
	// It fails once, and is started again with the volume it had.
	p.until("1", "exec", "-T", "flaky", "sh", "-c", "ls /state | wc -l")
	restarts := p.engine("inspect", "-f", "{{.RestartCount}} {{.State.Running}}", strings.TrimSpace(p.do("ps", "-q", "flaky")))
	p.holds("restarted once", restarts == "1 true", restarts)
	p.do("stop", "-t", "2")
	p.do("start")
	p.until("worker", "top")
	p.do("down", "-v", "-t", "2", "--remove-orphans")
}

// monitor: namespaces of another service, none, a terminal.
func monitor(p *project) {
	p.up()
	p.until("redis-server", "logs", "sidecar") // it sees the other's process
	p.shows([]string{"exec", "-T", "target", "redis-cli", "get", "seen"}, "yes")
	if !p.one { // version 1 disconnects the network that the container was created with, and its address with it
		p.shows([]string{"exec", "-T", "target", "cat", "/sys/class/net/eth0/address"}, "02:42:c6:13:aa:01")
	}
	p.shows([]string{"exec", "-T", "target", "df", "-k", "/dev/shm"}, "8192")
	p.shows([]string{"exec", "-T", "batch", "sh", "-c", "cat /proc/net/dev | wc -l; test -c /dev/mynull; id -G; pwd"}, "3\n", " 44", "/srv")
	id := strings.TrimSpace(p.do("ps", "-q", "batch"))
	tty := p.engine("inspect", "-f", "{{.Config.Tty}} {{.Config.OpenStdin}} {{.HostConfig.NetworkMode}}", id)
	p.holds("a terminal without network", tty == "true true none", tty)
	p.do("restart", "-t", "2", "batch")
	p.do("down", "-t", "2")
}

// legacy: links, volumes of another service, a subnet.
func legacy(p *project) {
	p.up()
	p.shows([]string{"exec", "-T", "web", "getent", "hosts", "backend"}, p.net())
	p.get("web", "80", "/other.html", "from another")
	p.until("Up", "ps")
	p.do("restart", "-t", "2", "web")
	p.get("web", "80", "/other.html", "from another")
	p.do("kill", "api")
	p.do("rm", "-fv", "api")
	p.do("up", "-d")
	p.do("logs", "api")
	p.shows([]string{"config"}, "mem_limit")
	p.shows([]string{"run", "--rm", "-T", "api", "redis-cli", "-h", "api", "ping"}, "PONG")
	p.do("down", "-v", "-t", "2")
}

// extended: files in files, watch, wait, events.
func extended(p *project) {
	p.shows([]string{"config"}, "LEVEL: override", "KEPT: 'yes'", "tier: override", "example.note: kept")
	lines, stop := p.beside("events", "--json")
	p.up()
	p.hears("events", lines, `"action":"start"`)
	stop()
	p.until("override yes", "logs", "app")
	p.shows([]string{"--profile", "debug", "run", "--rm", "-T", "debug"}, "debug app")
	p.watch()
	waits, stop := p.beside("wait", "helper")
	p.until("helper", "ps", "--services", "--status", "running")
	p.do("kill", "-s", "TERM", "helper")
	p.hears("wait", waits, "143")
	stop()
	p.do("export", "-o", "app.tar", "app")
	p.do("commit", "app", "conformance/committed:1")
	p.engine("rmi", "conformance/committed:1")
	attached, stop := p.beside("up", "--no-color", "--abort-on-container-exit", "--exit-code-from", "helper", "helper")
	p.until("helper", "ps", "--services", "--status", "running")
	p.do("stop", "-t", "2", "helper")
	p.hears("up --abort-on-container-exit", attached, "exited with code 143")
	stop()
	p.do("down", "--rmi", "local", "-t", "2")
}

// watch changes a file that Compose then copies into the container.
func (p *project) watch() {
	p.Helper()
	lines, stop := p.beside("watch", "--no-up")
	defer stop()
	p.hears("watch", lines, "Watch enabled")
	if err := os.WriteFile(filepath.Join(p.dir, "src", "a.txt"), []byte("two\n"), 0o644); err != nil {
		p.Fatal(err)
	}
	p.until("two", "exec", "-T", "app", "cat", "/src/a.txt")
	if err := os.WriteFile(filepath.Join(p.dir, "etc", "b.conf"), []byte("two\n"), 0o644); err != nil {
		p.Fatal(err)
	}
	p.until("two", "exec", "-T", "app", "cat", "/config/b.conf")
	p.hears("watch restarts", lines, "Restarting")
}

// net is the first three numbers of the project's subnet.
func (p *project) net() string { return strings.TrimPrefix(p.env[0], "NET=") }

// runComposeFiles runs the named files with a Compose.
func runComposeFiles(t *testing.T, c *composer, names ...string) tally {
	t.Helper()
	for _, name := range names {
		t.Run(name, func(t *testing.T) { composeFiles[name](c.open(t, name)) })
	}
	if c.got.pass == 0 {
		t.Error(fmt.Errorf("nothing was checked"))
	}
	return c.got
}
