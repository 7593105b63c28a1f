package network

import (
	"errors"
	"net/netip"
	"os"

	"lade/internal/errdefs"
	"lade/internal/network/gate"
)

// SetPublishPolicy sets the policy of ports that are published from now on,
// where neither they nor their network say one; "" is PolicyDNAT. Errors:
// Invalid.
func (n *Networks) SetPublishPolicy(policy string) error {
	err := CheckPolicy(policy)
	if err == nil {
		n.policy.Store(&policy)
	}
	return err
}

func (p hostPort) gateKey() gate.Key { return gate.Key{Proto: p.proto, Host: p.AddrPort} }

// findGate connects with a gate that an earlier process of the engine started,
// and returns the sockets that it has.
func (n *Networks) findGate() (kept map[gate.Key]*os.File, err error) {
	if n.c.Gate.Binary == "" {
		return nil, nil
	}
	n.gate, kept, err = gate.Connect(n.c.Gate)
	return kept, err
}

// resumeGate brings the gate to what the records say. What is left of kept
// belongs to nobody.
func (n *Networks) resumeGate(kept map[gate.Key]*os.File) error {
	var errs []error
	for k, f := range kept {
		errs = append(errs, n.gate.Close(k, true), f.Close())
	}
	for id, c := range n.containers {
		if err := n.serve(&containerRecord{}, c); err != nil { // the others work
			n.log.Error("a published port is not served", "container", id, "error", err)
		}
	}
	return errors.Join(errs...)
}

// served returns the ports that the gate serves for a container.
func (n *Networks) served(c *containerRecord) map[gate.Key]gate.Port {
	var out map[gate.Key]gate.Port
	for _, b := range c.Ports {
		to, ok := n.leadsTo(c, b)
		if !b.Served || !ok {
			continue
		}
		p := gate.Port{Proto: b.Proto, Host: b.host().AddrPort, To: to, Near: near(c, to.Addr().Is6()), From: b.From}
		if n.c.rules(to.Addr().Is6()) {
			p.Mark = n.wall.way.out
		}
		if out == nil {
			out = map[gate.Key]gate.Port{}
		}
		out[p.Key()] = p
	}
	return out
}

// near returns the subnets of a container: whoever is there is answered directly.
func near(c *containerRecord, six bool) (out []netip.Prefix) {
	for _, e := range c.Endpoints {
		p := e.IPv4
		if six {
			p = e.IPv6
		}
		if p.IsValid() {
			out = append(out, p.Masked())
		}
	}
	return out
}

// serve brings the gate from what it serves with one record of a container to
// what it is to serve with another. It stops at the first error.
func (n *Networks) serve(was, now *containerRecord) error {
	if n.gate == nil {
		return nil
	}
	old, next := n.served(was), n.served(now)
	for k := range old {
		if _, stays := next[k]; !stays {
			if err := n.gate.Close(k, len(now.Endpoints) == 0); err != nil {
				return err
			}
		}
	}
	for k, p := range next {
		f := n.ports.socket(hostPort{k.Proto, k.Host})
		if f == nil {
			return errdefs.Unavailablef("port %s/%s is in use by a program of the host", k.Host, k.Proto)
		}
		if err := n.gate.Open(p, f); err != nil {
			return err
		}
	}
	return nil
}
