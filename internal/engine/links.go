package engine

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	apicontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"lade/internal/engine/container"
	"lade/internal/errdefs"
	"lade/internal/network/etc"
)

// Links are Docker's older way for containers on the default network to find
// one another: lines in /etc/hosts, and the environment. In networks that users
// create a link is a name that one container knows (network.Member).

// splitLink splits "container:alias"; an alias that is not said is the name.
func splitLink(s string) (name, alias string, err error) {
	name, alias, ok := strings.Cut(s, ":")
	if !ok {
		alias = name
	}
	name, alias = strings.TrimPrefix(name, "/"), alias[strings.LastIndexByte(alias, '/')+1:]
	if name == "" || alias == "" || strings.Contains(alias, ":") {
		return "", "", errdefs.Invalidf("bad format for links: %s", s)
	}
	return name, alias, nil
}

// namedLinks are the links of a container by their alias: those that give what they
// lead to another name, "other/alias", as links on the default network do.
func namedLinks(r *container.Record) map[string]string {
	if len(r.HostConfig.Links) == 0 || r.HostConfig.NetworkMode.IsUserDefined() {
		return nil
	}
	out := map[string]string{}
	for _, l := range r.HostConfig.Links {
		if name, alias, err := splitLink(l); err == nil {
			out[alias] = name
		}
	}
	return out
}

// linkNames are the names that containers have by the links of others, in order, by
// their ids.
func (e *host) linkNames() map[string][]string {
	if !e.linked.Load() {
		return nil
	}
	out := map[string][]string{}
	for _, a := range e.containers.list() {
		r := a.View()
		for alias, name := range namedLinks(r) {
			if to, err := e.containers.find(name); err == nil {
				id := to.View().ID
				out[id] = append(out[id], "/"+r.Name+"/"+alias)
			}
		}
	}
	for _, names := range out {
		slices.Sort(names)
	}
	return out
}

// checkLinks refuses links that lead nowhere. Errors: Invalid, in Docker's words.
func (e *host) checkLinks(hc *apicontainer.HostConfig) error {
	for _, l := range hc.Links {
		name, _, err := splitLink(l)
		if err != nil {
			return err
		}
		a, err := e.containers.find(name)
		if err != nil {
			return errdefs.Invalidf("could not get container for %s: %w", name, err)
		}
		if a.View().HostConfig.NetworkMode.IsHost() {
			return errdefs.Invalidf("conflicting options: host type networking can't be used with links. This would result in undefined behavior")
		}
	}
	if len(hc.Links) > 0 {
		e.linked.Store(true)
	}
	return nil
}

// linkedTo is a container that another one finds by an alias.
type linkedTo struct {
	alias string
	ip    netip.Addr // the IPv4 address
	ip6   netip.Addr // zero: none
	to    *container.Record
}

// links returns those of a container on the default network. Errors: NotFound
// for a container that is gone, Conflict for one that does not run there, in
// Docker's words.
func (e *host) links(r *container.Record) (out []linkedTo, err error) {
	if len(r.HostConfig.Links) == 0 || r.HostConfig.NetworkMode.IsUserDefined() {
		return nil, nil
	}
	for _, l := range r.HostConfig.Links {
		name, alias, err := splitLink(l)
		if err != nil {
			return nil, err
		}
		a, err := e.containers.find(name)
		if err != nil {
			return nil, err
		}
		to := a.View()
		found := linkedTo{alias: alias, to: to}
		found.ip, found.ip6 = e.linkAddresses(to.ID)
		if !to.State.Alive() || !found.ip.IsValid() {
			return nil, errdefs.Conflictf("Cannot link to a non running container: /%s AS /%s/%s", to.Name, r.Name, alias)
		}
		out = append(out, found)
	}
	return out, nil
}

// hosts are the names of a link in /etc/hosts.
func (l linkedTo) hosts() string {
	names := []string{l.alias}
	for _, n := range []string{l.to.Config.Hostname, l.to.Name} {
		if n != "" && !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	return strings.Join(names, " ")
}

// lines are the link's lines in /etc/hosts, as "names:address".
func (l linkedTo) lines() []string {
	out := []string{l.hosts() + ":" + l.ip.String()}
	if l.ip6.IsValid() {
		out = append(out, l.hosts()+":"+l.ip6.String())
	}
	return out
}

// withLinks returns r, or a copy whose environment tells of its links.
func (e *host) withLinks(r *container.Record) (*container.Record, error) {
	all, err := e.links(r)
	if err != nil || len(all) == 0 {
		return r, err
	}
	out, config := *r, *r.Config
	env := []string{}
	for _, l := range all {
		env = append(env, l.env(r.Name)...)
	}
	config.Env = mergeEnv(env, config.Env) // what the user says wins
	out.Config = &config
	return &out, nil
}

// env are the variables of a link, as Docker names them.
func (l linkedTo) env(of string) []string {
	prefix := strings.ToUpper(strings.ReplaceAll(l.alias, "-", "_"))
	var ports []network.Port
	for p := range l.to.Config.ExposedPorts {
		ports = append(ports, p)
	}
	slices.SortFunc(ports, func(a, b network.Port) int { // tcp first
		return cmp.Or(cmp.Compare(order(a.Proto() != "tcp"), order(b.Proto() != "tcp")), strings.Compare(string(a.Proto()), string(b.Proto())), cmp.Compare(a.Num(), b.Num()))
	})
	var out []string
	for i, p := range ports {
		url := fmt.Sprintf("%s://%s:%d", p.Proto(), l.ip, p.Num())
		if i == 0 {
			out = append(out, prefix+"_PORT="+url)
		}
		one := fmt.Sprintf("%s_PORT_%d_%s", prefix, p.Num(), strings.ToUpper(string(p.Proto())))
		out = append(out, one+"="+url, one+"_ADDR="+l.ip.String(), fmt.Sprintf("%s_PORT=%d", one, p.Num()), one+"_PROTO="+string(p.Proto()))
	}
	out = append(out, prefix+"_NAME=/"+of+"/"+l.alias)
	for _, kv := range l.to.Config.Env {
		if k, _, ok := strings.Cut(kv, "="); ok && k != "HOME" && k != "PATH" {
			out = append(out, prefix+"_ENV_"+kv)
		}
	}
	return out
}

func order(b bool) int {
	if b {
		return 1
	}
	return 0
}

// shownLinks are a container's links as inspect shows them.
func shownLinks(r *container.Record) []string {
	var out []string
	for _, l := range r.HostConfig.Links {
		if name, alias, err := splitLink(l); err == nil {
			out = append(out, "/"+name+":/"+r.Name+"/"+alias)
		}
	}
	return out
}

// linkedAnew tells the containers with a link to r, which has just started,
// where it is now.
func (e *host) linkedAnew(r *container.Record) {
	if !e.linked.Load() {
		return
	}
	ip, ip6 := e.linkAddresses(r.ID)
	if !ip.IsValid() {
		return
	}
	for _, a := range e.containers.all() {
		other := a.View()
		if !other.State.Alive() {
			continue
		}
		for _, l := range other.HostConfig.Links {
			name, alias, err := splitLink(l)
			if err != nil || name != r.Name && name != r.ID {
				continue
			}
			to := linkedTo{alias: alias, to: r}
			err = e.editHosts(other.ID, func(f []byte) []byte {
				f = etc.Move(f, to.hosts(), ip)
				if ip6.IsValid() {
					f = etc.Move(f, to.hosts(), ip6)
				}
				return f
			})
			if err != nil {
				e.log.Warn("a linked container does not learn the new address", "container", other.ID, "linked", r.ID, "error", err)
			}
		}
	}
}

// linkAddresses are a container's addresses in the default network.
func (e *host) linkAddresses(id string) (ip, ip6 netip.Addr) {
	for _, ep := range e.Networks.Endpoints(id) {
		if ep.NetworkName == network.NetworkBridge {
			return ep.IPv4.Addr(), ep.IPv6.Addr()
		}
	}
	return ip, ip6
}

// unlink removes a link by its name, "container/alias": the container forgets the
// name at once, and its environment with the next start. Errors, in Docker's
// words: NotFound for a container or a link that is not there, Conflict for a
// name that is a container's own.
func (e *host) unlink(ctx context.Context, said string) error {
	name := strings.TrimPrefix(said, "/")
	parent, alias, ok := strings.Cut(name, "/")
	if !ok {
		if _, err := e.containers.find(name); err != nil {
			return err
		}
		return errdefs.Conflictf("Conflict, cannot remove the default link name of the container")
	}
	a, err := e.containers.find(parent)
	if err != nil {
		return errdefs.NotFoundf("Cannot get parent /%s for link name /%s", parent, name)
	}
	return a.Update(ctx, func(r *container.Record) error {
		kept := slices.DeleteFunc(slices.Clone(r.HostConfig.Links), func(l string) bool {
			_, have, err := splitLink(l)
			return err == nil && have == alias
		})
		if len(kept) == len(r.HostConfig.Links) {
			return errdefs.NotFoundf("No such container: %s", name)
		}
		r.HostConfig.Links = kept
		if !r.State.Alive() {
			return nil
		}
		return e.editHosts(r.ID, func(f []byte) []byte { return etc.Drop(f, alias) })
	})
}
