package network

import (
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/network"

	"lade/internal/ids"
)

func quiet(c *Config) { c.Logger = slog.New(slog.DiscardHandler) }

// BenchmarkConnect is a container's network from the engine's view, with and
// without the pool. Namespaces die in the background and are not counted.
func BenchmarkConnect(b *testing.B) {
	for _, size := range []int{16, -1} {
		name := "pool"
		if size < 0 {
			name = "demand"
		}
		for _, ports := range []int{0, 1, 100} {
			b.Run(fmt.Sprintf("%s/ports=%d", name, ports), func(b *testing.B) {
				e := newBench(b, func(c *Config) { quiet(c); c.PoolSize = size })
				var pub []Publish
				for i := range ports {
					pub = append(pub, Publish{Proto: "tcp", Port: 80, HostPort: uint16(20000 + i)})
				}
				for b.Loop() {
					if size > 0 { // measured is a start now and then, not a storm
						b.StopTimer()
						for len(e.n.def.pool.slots) < size {
							time.Sleep(time.Millisecond)
						}
						time.Sleep(20 * time.Millisecond) // for the last namespace to die
						b.StartTimer()
					}
					id := ids.New()
					ep, err := e.n.Connect(b.Context(), Request{ContainerID: id, Name: "c", Ports: pub})
					if err != nil {
						b.Fatal(err)
					}
					b.StopTimer()
					if err := e.n.Release(b.Context(), id); err != nil {
						b.Fatal(err)
					}
					ep.NetNS.Close()
					b.StartTimer()
				}
			})
		}
	}
}

func BenchmarkRelease(b *testing.B) {
	e := newBench(b, func(c *Config) { quiet(c); c.PoolSize = 64 })
	for b.Loop() {
		b.StopTimer()
		id := ids.New()
		ep, err := e.n.Connect(b.Context(), Request{ContainerID: id, Ports: []Publish{{Proto: "tcp", Port: 80, HostPort: 20000}}})
		if err != nil {
			b.Fatal(err)
		}
		ep.NetNS.Close()
		b.StartTimer()
		if err := e.n.Release(b.Context(), id); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPort is one published port, added and removed, beside others.
func BenchmarkPort(b *testing.B) {
	for _, others := range []int{0, 10000} {
		b.Run(fmt.Sprintf("others=%d", others), func(b *testing.B) {
			e := newBench(b, quiet)
			to := netip.AddrPortFrom(e.n.HostGateway()[0], 80)
			at := func(p int) hostPort {
				return hostPort{"tcp", netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(p))}
			}
			many := map[hostPort]netip.AddrPort{}
			for i := range others {
				many[at(30000+i)] = to
			}
			if err := e.n.wall.change(published{}, published{to: many}); err != nil {
				b.Fatal(err)
			}
			one := map[hostPort]netip.AddrPort{at(8080): to}
			for b.Loop() {
				if err := e.n.wall.change(published{}, published{to: one}); err != nil {
					b.Fatal(err)
				}
				if err := e.n.wall.change(published{to: one}, published{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestMany connects and releases containers from several goroutines.
func TestMany(t *testing.T) {
	b := newBench(t, nil)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 10 {
				id := fmt.Sprintf("%d-%d", g, i)
				ep, err := b.n.Connect(t.Context(), Request{ContainerID: id, Ports: []Publish{{Proto: "tcp", Port: 80}, {Proto: "udp", Port: 80, HostPort: uint16(9000 + g)}}})
				if err != nil {
					t.Error(err)
					continue
				}
				ep.NetNS.Close()
				if _, err := b.n.Stats(id); err != nil {
					t.Error(err)
				}
				if _, err := b.n.Inspect("bridge"); err != nil {
					t.Error(err)
				}
				if err := b.n.Release(t.Context(), id); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if !b.n.wall.ports.empty() || len(b.n.ports.held) != 0 || len(b.n.containers) != 0 {
		t.Errorf("left: %v, %v, %v", b.n.wall.ports, b.n.ports.held, b.n.containers)
	}
}

// BenchmarkNew is what the daemon's start waits for, with 100 containers that
// run and publish a port each.
func BenchmarkNew(b *testing.B) {
	e := newBench(b, func(c *Config) { quiet(c); c.PoolSize = -1 })
	for i := range 100 {
		ep, err := e.n.Connect(b.Context(), Request{ContainerID: ids.New(), Ports: []Publish{{Proto: "tcp", Port: 80, HostPort: uint16(20000 + i)}}})
		if err != nil {
			b.Fatal(err)
		}
		ep.NetNS.Close()
	}
	for b.Loop() {
		b.StopTimer()
		if err := e.n.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		var err error
		if e.n, err = New(b.Context(), e.c); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAttach is a network that was created: a container's first one, a
// further one, and the network itself.
func BenchmarkAttach(b *testing.B) {
	e := newBench(b, quiet)
	q := network.CreateRequest{Name: "n", IPAM: subnet("10.61.0.0/24")}
	first := func(name string) (id string, ep *Endpoint) {
		id = ids.New()
		ep, err := e.n.Connect(b.Context(), Request{ContainerID: id, Name: "c", Network: name})
		if err != nil {
			b.Fatal(err)
		}
		return id, ep
	}
	end := func(id string, ep *Endpoint) {
		if err := e.n.Release(b.Context(), id); err != nil {
			b.Fatal(err)
		}
		ep.NetNS.Close()
	}
	e.create(q)
	b.Run("first", func(b *testing.B) {
		end(first("n")) // makes the pool
		for b.Loop() {
			b.StopTimer()
			time.Sleep(100 * time.Millisecond) // a start now and then
			b.StartTimer()
			id, ep := first("n")
			b.StopTimer()
			end(id, ep)
			b.StartTimer()
		}
	})
	b.Run("further", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			id, ep := first("bridge")
			time.Sleep(100 * time.Millisecond)
			b.StartTimer()
			if _, err := e.n.Attach(b.Context(), Request{ContainerID: id, Network: "n", NetNS: ep.NetNS}); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			end(id, ep)
			b.StartTimer()
		}
	})
	b.Run("network", func(b *testing.B) {
		for b.Loop() {
			q := q
			q.Name, q.IPAM = "m", nil
			e.create(q)
			if err := e.n.Remove(b.Context(), "m"); err != nil {
				b.Fatal(err)
			}
		}
	})
}
