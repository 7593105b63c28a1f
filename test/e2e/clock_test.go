package e2e

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	moby "github.com/moby/moby/client"
	"golang.org/x/sys/unix"

	"lade/internal/need"
	"lade/test/harness"
)

// clock is an engine on a machine whose clock is set under it, and moments of the
// test by what that clock said at the time. It is asked by its API: where a
// processor is emulated each start of a client takes seconds.
type clock struct {
	*harness.Engine
	t      *testing.T
	client *moby.Client
	dir    string    // the host's side of /d of all containers
	began  time.Time // by both clocks
	spans  map[string][2]time.Time
	order  []string
}

// TestClock sets the clock of the machine an hour ahead, two hours back and three
// ahead while containers run: logs and events have the new time and are found by
// it, who follows them misses nothing, and what waits for a time does so by the
// clock that nobody sets.
func TestClock(t *testing.T) {
	need.Root(t)
	if os.Getenv("LADE_TEST_CLOCK") == "" {
		t.Skip("it sets the clock of the machine, which must be its own: make test-vm")
	}
	e := harness.Start(t)
	api, err := moby.New(moby.WithHost("unix://" + e.Socket))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { api.Close() })
	c := &clock{Engine: e, t: t, client: api, dir: t.TempDir(), began: time.Now(), spans: map[string][2]time.Time{}}
	t.Cleanup(func() { c.set(0) })
	if err := unix.Mkfifo(filepath.Join(c.dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.Import()
	c.run("says", nil, "", "exec 3<>/d/fifo; while read line <&3; do echo $line; done")
	c.run("checked", &container.HealthConfig{Test: []string{"CMD", "test", "!", "-e", "/d/bad"}, Interval: 200 * time.Millisecond, Retries: 1}, "", "sleep 10000")
	// Its failures do not count before it has run for half an hour.
	c.run("begins", &container.HealthConfig{Test: []string{"CMD", "false"}, Interval: 200 * time.Millisecond, Retries: 1,
		StartPeriod: 30 * time.Minute, StartInterval: 200 * time.Millisecond}, "", "sleep 10000")
	c.create("stubborn", nil, "", "trap '' TERM; while :; do sleep 1; done")
	c.moment("before", 0)
	c.moment("ahead", time.Hour)
	c.Kill()
	c.Launch()
	c.goesOn()
	c.moment("back", -time.Hour)
	old := c.Supervisor()
	if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	need.Eventually(t, "there is another supervisor", func() bool { now := c.Supervisor(); return now != 0 && now != old })
	c.goesOn()
	c.moment("later", 2*time.Hour)
	for _, m := range c.order {
		c.found(m)
	}
	if got := c.logs(moby.ContainerLogsOptions{}); !slices.Equal(got, c.order) {
		t.Errorf("the whole log is %q", got)
	}
	for _, program := range []string{"lade", "docker"} {
		since, until := c.span("ahead")
		out, err := c.Command(program, "logs", "--since", since, "--until", until, "says").CombinedOutput()
		if strings.TrimSpace(string(out)) != "ahead" || err != nil {
			t.Errorf("%s logs of the moment ahead: %q, %v", program, out, err)
		}
	}
}

// run starts a new container with a script.
func (c *clock) run(name string, health *container.HealthConfig, policy container.RestartPolicyMode, script string) {
	c.t.Helper()
	c.create(name, health, policy, script)
	c.start(name)
}

func (c *clock) start(name string) {
	c.t.Helper()
	if _, err := c.client.ContainerStart(c.t.Context(), name, moby.ContainerStartOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

func (c *clock) create(name string, health *container.HealthConfig, policy container.RestartPolicyMode, script string) {
	c.t.Helper()
	_, err := c.client.ContainerCreate(c.t.Context(), moby.ContainerCreateOptions{
		Name:       name,
		Config:     &container.Config{Image: harness.Image, Cmd: []string{"sh", "-c", script}, Healthcheck: health},
		HostConfig: &container.HostConfig{Binds: []string{c.dir + ":/d"}, NetworkMode: "none", RestartPolicy: container.RestartPolicy{Name: policy}},
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

// set sets the clock to what it would be without the test, and an offset.
func (c *clock) set(offset time.Duration) {
	c.t.Helper()
	at := unix.NsecToTimeval(c.began.Add(time.Since(c.began) + offset).UnixNano())
	if err := unix.Settimeofday(&at); err != nil {
		c.t.Fatal(err)
	}
}

// moment sets the clock while a container is being stopped, another one waits to
// be started again and logs and events are followed. A line is written and a
// container made, both named like the moment; then all must go on.
func (c *clock) moment(name string, offset time.Duration) {
	c.t.Helper()
	var lines need.Buffer
	logs, err := c.client.ContainerLogs(c.t.Context(), "says", moby.ContainerLogsOptions{ShowStdout: true, Follow: true})
	if err != nil {
		c.t.Fatal(err)
	}
	defer logs.Close()
	go io.Copy(&lines, logs) // until it is closed
	ctx, cancel := context.WithCancel(c.t.Context())
	defer cancel()
	made := c.client.Events(ctx, moby.EventsListOptions{Filters: moby.Filters{}.Add("event", "create")})
	c.start("stubborn")
	c.run("fails", nil, container.RestartPolicyAlways, "exit 1")
	if m := <-made.Messages; m.Actor.Attributes["name"] != "fails" {
		c.t.Fatalf("%+v", m)
	}
	c.restarts(2)
	stopped := make(chan error, 1)
	go func() {
		timeout := 3
		_, err := c.client.ContainerStop(c.t.Context(), "stubborn", moby.ContainerStopOptions{Timeout: &timeout})
		stopped <- err
	}()

	c.set(offset)
	from := time.Now()
	if err := os.WriteFile(filepath.Join(c.dir, "fifo"), []byte(name+"\n"), 0); err != nil {
		c.t.Fatal(err)
	}
	lines.Await(c.t, name+"\n")
	c.create(name, nil, "", "true")
	select {
	case m := <-made.Messages:
		if m.Actor.Attributes["name"] != name {
			c.t.Errorf("%s: %+v", name, m)
		}
	case err := <-made.Err:
		c.t.Fatalf("%s: events: %v", name, err)
	case <-time.After(need.Patience(30 * time.Second)):
		c.t.Fatalf("%s: who follows events has none", name)
	}
	c.spans[name] = [2]time.Time{from, time.Now()}
	c.order = append(c.order, name)
	c.found(name)

	c.restarts(2)
	select {
	case err := <-stopped:
		if s := c.inspect("stubborn").State; err != nil || s.Status != container.StateExited || s.ExitCode != 137 {
			c.t.Errorf("%s: stopped: %v, %+v", name, err, s)
		}
	case <-time.After(need.Patience(30 * time.Second)):
		c.t.Fatalf("%s: what ignores the signal is not killed after three seconds", name)
	}
	c.goesOn()
	if _, err := c.client.ContainerRemove(c.t.Context(), "fails", moby.ContainerRemoveOptions{Force: true}); err != nil {
		c.t.Fatal(err)
	}
}

func (c *clock) inspect(name string) container.InspectResponse {
	c.t.Helper()
	r, err := c.client.ContainerInspect(c.t.Context(), name, moby.ContainerInspectOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	return r.Container
}

// restarts waits until the container that fails was started again that often.
func (c *clock) restarts(times int) {
	c.t.Helper()
	first := c.inspect("fails").RestartCount
	need.Eventually(c.t, "what failed is started again", func() bool { return c.inspect("fails").RestartCount >= first+times })
}

// goesOn looks at health checks, at a start period, and at what ps says.
func (c *clock) goesOn() {
	c.t.Helper()
	becomes := func(want container.HealthStatus) {
		c.t.Helper()
		need.Eventually(c.t, "it is "+string(want), func() bool { return c.inspect("checked").State.Health.Status == want })
	}
	bad := filepath.Join(c.dir, "bad")
	if err := os.WriteFile(bad, nil, 0o600); err != nil {
		c.t.Fatal(err)
	}
	becomes(container.Unhealthy)
	if err := os.Remove(bad); err != nil {
		c.t.Fatal(err)
	}
	becomes(container.Healthy)

	last := func() (began time.Time) {
		if log := c.inspect("begins").State.Health.Log; len(log) > 0 {
			began = log[len(log)-1].Start
		}
		return began
	}
	for range 2 {
		before := last()
		need.Eventually(c.t, "what begins is checked on", func() bool { return !last().Equal(before) })
	}
	if got := c.inspect("begins").State.Health.Status; got != container.Starting {
		c.t.Errorf("in its start period it is %s", got)
	}
	all, err := c.client.ContainerList(c.t.Context(), moby.ContainerListOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	for _, one := range all.Items {
		if up := strings.HasPrefix(one.Status, "Up ") || strings.HasPrefix(one.Status, "Restarting"); !up || strings.Contains(one.Status, "-") {
			c.t.Errorf("%s: %s", one.Names, one.Status)
		}
	}
}

// span is when a moment was, as --since and --until have it.
func (c *clock) span(moment string) (since, until string) {
	at := func(t time.Time) string { return fmt.Sprintf("%d.%09d", t.Unix(), t.Nanosecond()) }
	return at(c.spans[moment][0]), at(c.spans[moment][1])
}

// found asks for the lines and the events of a moment.
func (c *clock) found(moment string) {
	c.t.Helper()
	since, until := c.span(moment)
	if got := c.logs(moby.ContainerLogsOptions{Since: since, Until: until}); !slices.Equal(got, []string{moment}) {
		c.t.Errorf("logs of the moment %s: %q", moment, got)
	}
	r := c.client.Events(c.t.Context(), moby.EventsListOptions{Since: since, Until: until, Filters: moby.Filters{}.Add("event", "create")})
	var got []string
	for {
		select {
		case m := <-r.Messages:
			got = append(got, m.Actor.Attributes["name"])
			continue
		case err := <-r.Err:
			if err != io.EOF || !slices.Equal(got, []string{moment}) {
				c.t.Errorf("events of the moment %s: %q, %v", moment, got, err)
			}
		case <-time.After(need.Patience(30 * time.Second)):
			c.t.Errorf("events of the moment %s do not end: %q", moment, got)
		}
		return
	}
}

// logs returns lines of the container that says something.
func (c *clock) logs(o moby.ContainerLogsOptions) []string {
	c.t.Helper()
	o.ShowStdout = true
	r, err := c.client.ContainerLogs(c.t.Context(), "says", o)
	if err != nil {
		c.t.Fatal(err)
	}
	defer r.Close()
	var out strings.Builder
	if _, err := stdcopy.StdCopy(&out, io.Discard, r); err != nil {
		c.t.Error(err)
	}
	return strings.Fields(out.String())
}
