package bench

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"lade/internal/need"
	"lade/test/harness"
)

// wireConn is a client without a library: what is measured is the server, and
// the client costs as little as can be on the same two cores.
type wireConn struct {
	net.Conn
	r *bufio.Reader
}

func wireDial(t *testing.T, e *harness.Engine) *wireConn {
	t.Helper()
	c, err := net.Dial("unix", e.Socket)
	if err != nil {
		t.Fatal(err)
	}
	return &wireConn{c, bufio.NewReaderSize(c, 256<<10)}
}

// get asks and reads the whole answer.
func (c *wireConn) get(path string) (int, error) {
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: lade\r\n\r\n", path); err != nil {
		return 0, err
	}
	res, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return 0, err
	}
	n, err := c.discard(res)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", path, res.Status)
	}
	return n, err
}

// discard reads a body and throws it away, in large pieces if its length is known.
func (c *wireConn) discard(res *http.Response) (int, error) {
	if res.ContentLength >= 0 {
		return c.r.Discard(int(res.ContentLength))
	}
	n, err := io.Copy(io.Discard, res.Body)
	return int(n), err
}

// TestAPI measures the API of an engine with 1,000 containers: lists, inspects,
// followers and listeners, crowds, and whether memory stays flat.
func TestAPI(t *testing.T) {
	if os.Getenv("LADE_BENCH") == "" {
		t.Skip("LADE_BENCH is not set: make bench")
	}
	need.Root(t)
	e := harness.Start(t)
	e.Run("import", rootfs(t), image)
	c := connect(t, e)
	const containers, running = 1000, 100
	ids := make([]string, containers)
	inParallel(t, containers, func(i int) (err error) {
		ids[i], err = create(t.Context(), c, "sleep", "100000")
		return err
	})
	e.Run(append([]string{"start"}, ids[:running]...)...)

	t.Run("lists", func(t *testing.T) { listsOf(t, e, c, ids, running) })
	t.Run("audience", func(t *testing.T) { audience(t, e, ids[:running]) })
	t.Run("flat", func(t *testing.T) { flat(t, e, ids[0]) })
	t.Run("crowd", func(t *testing.T) { crowd(t, e) })
}

// listsOf asks for containers of which some run, and for all when all run.
func listsOf(t *testing.T, e *harness.Engine, c *client.Client, ids []string, running int) {
	conn := wireDial(t, e)
	defer conn.Close()
	size := 0
	ask := func(path string) func() error {
		return func() (err error) {
			size, err = conn.get(path)
			return err
		}
	}
	limit(t, "list of 1,000 containers", measure(t, 200, ask("/containers/json?all=1")).median(), 5, "ms")
	note(t, "… of so many bytes", float64(size)/1024, "kB")
	limit(t, "list of 100 that run", measure(t, 200, ask("/containers/json")).median(), 5, "ms")
	slowestRate(t, "requests for a list by 4 clients, 1,000 containers of which 100 run", rate(t, e, 4, 500, "/containers/json"), 1000)
	slowestRate(t, "… of all 1,000", rate(t, e, 4, 500, "/containers/json?all=1"), 1000)
	note(t, "… by clients of another version", rate(t, e, 4, 500, "/v1.45/containers/json?all=1"), "1/s")
	note(t, "… while one of them is renamed again and again", renaming(t, c, ids[running], func() float64 {
		return rate(t, e, 4, 500, "/containers/json?all=1")
	}), "1/s")
	inspect := measure(t, 2000, ask("/containers/"+ids[0]+"/json"))
	slices.Sort(inspect)
	limit(t, "inspect, p99", float64(inspect[len(inspect)*99/100])/float64(time.Millisecond), 1, "ms")

	inParallel(t, len(ids)-running, func(i int) error {
		_, err := c.ContainerStart(t.Context(), ids[running+i], client.ContainerStartOptions{})
		return err
	})
	limit(t, "list of 1,000 that run", measure(t, 200, ask("/containers/json")).median(), 5, "ms")
	slowestRate(t, "requests for it by 4 clients", rate(t, e, 4, 500, "/containers/json"), 1000)
}

// renaming measures while a container is given one name after the other.
func renaming(t *testing.T, c *client.Client, id string, measured func() float64) float64 {
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := c.ContainerRename(t.Context(), id, client.ContainerRenameOptions{NewName: "n" + strconv.Itoa(i)}); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	got := measured()
	close(stop)
	<-stopped
	return got
}

func slowestRate(t *testing.T, what string, got, least float64) {
	t.Helper()
	slack, err := strconv.ParseFloat(os.Getenv("LADE_BENCH_SLACK"), 64)
	if err != nil {
		slack = 1
	}
	if got < least/slack {
		t.Errorf("%s: %.0f 1/s, promised %.0f", what, got, least)
	}
	t.Logf("%-58s %9.0f %-4s (promised %.0f)", what, got, "1/s", least)
}

// rate returns how many requests a second so many clients are answered.
func rate(t *testing.T, e *harness.Engine, clients, each int, path string) float64 {
	t.Helper()
	var all sync.WaitGroup
	begin := time.Now()
	for range clients {
		c := wireDial(t, e)
		all.Go(func() {
			defer c.Close()
			for range each {
				if _, err := c.get(path); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	return float64(clients*each) / time.Since(begin).Seconds()
}

// resident is what the daemon and the supervisor use, in kB.
func resident(t *testing.T, e *harness.Engine) float64 {
	t.Helper()
	return pss(t, e.Pid()) + pss(t, e.Supervisor())
}

// audience counts what 500 followers of logs and 500 listeners to events cost.
func audience(t *testing.T, e *harness.Engine, ids []string) {
	before := resident(t, e)
	var all []net.Conn
	for i := range 500 {
		for _, path := range []string{"/events", "/containers/" + ids[i%len(ids)] + "/logs?follow=1&stdout=1"} {
			c := wireDial(t, e)
			fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: lade\r\n\r\n", path)
			if line, err := c.r.ReadString('\n'); err != nil || !strings.Contains(line, "200 OK") {
				t.Fatalf("%s: %q %v", path, line, err)
			}
			all = append(all, c)
		}
	}
	limit(t, "500 followers of logs and 500 listeners to events", (resident(t, e)-before)/1024, 50, "MB")
	for _, c := range all {
		c.Close()
	}
}

// flat asks 100,000 times and compares the daemon's memory with what it was
// when the first tenth was answered.
func flat(t *testing.T, e *harness.Engine, id string) {
	files := func() int {
		all, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(e.Pid()), "fd"))
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	round := func(n int) {
		for _, path := range []string{"/_ping", "/containers/" + id + "/json", "/info", "/version", "/containers/json?limit=1"} {
			rate(t, e, 2, n/10, path)
		}
	}
	round(10_000)
	before, open := resident(t, e), files()
	round(90_000)
	limit(t, "memory after 100,000 requests beyond that after 10,000", (resident(t, e)-before)/1024, 5, "MB")
	limit(t, "descriptors beyond those after 10,000", float64(files()-open), 20, "")
}

// crowd connects 10,000 clients at a time, each of which asks and stays.
func crowd(t *testing.T, e *harness.Engine) {
	const clients = 10_000
	before := resident(t, e)
	all := make([]*wireConn, clients)
	for i := range all {
		all[i] = wireDial(t, e)
	}
	begin := time.Now()
	for _, c := range all {
		if _, err := c.get("/_ping"); err != nil {
			t.Fatal(err)
		}
	}
	note(t, "10,000 clients connected, and asked one after another", float64(clients)/time.Since(begin).Seconds(), "1/s")
	limit(t, "memory of 10,000 clients", (resident(t, e)-before)/1024, 300, "MB")
	for _, c := range all {
		c.Close()
	}
	conn := wireDial(t, e)
	defer conn.Close()
	if _, err := conn.get("/_ping"); err != nil {
		t.Error(err)
	}
}
