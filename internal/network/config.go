package network

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/moby/moby/api/types/network"

	"lade/internal/errdefs"
	"lade/internal/ids"
	"lade/internal/store"
)

// A network may only hold a configuration (--config-only): addresses, options and
// labels that others take from it (--config-from) as they are created. Nothing
// of it is in the kernel, and no address is taken for it.

// checkConfig refuses what cannot be of a configuration or with one, in Docker's
// words.
func checkConfig(q network.CreateRequest) error {
	from := q.ConfigFrom != nil && q.ConfigFrom.Network != ""
	switch {
	case q.ConfigOnly && (q.Ingress || q.Internal || q.Attachable || q.Scope != ""):
		return errdefs.Forbiddenf("configuration network can only contain network specific fields. Network operator fields like [ ingress | internal | attachable | scope ] are not supported.")
	case q.ConfigOnly && from:
		return errdefs.Forbiddenf("a configuration network cannot depend on another configuration network")
	case !from:
		return nil
	case q.EnableIPv4 != nil && !*q.EnableIPv4, q.EnableIPv6 != nil && *q.EnableIPv6, len(q.Labels) > 0,
		q.IPAM != nil && (len(q.IPAM.Config) > 0 || len(q.IPAM.Options) > 0 || q.IPAM.Driver != "" && q.IPAM.Driver != "default"):
		return errdefs.Forbiddenf("user specified configurations are not supported if the network depends on a configuration network")
	case len(q.Options) > 0:
		return errdefs.Forbiddenf("network driver options are not supported if the network depends on a configuration network")
	}
	return nil
}

// createConfig records a network that only holds a configuration.
func (n *Networks) createConfig(ctx context.Context, q network.CreateRequest) (id string, err error) {
	enabled, err := families4and6(q)
	if err != nil {
		return "", err
	}
	u := &userNetwork{
		Driver: "null", Options: maps.Clone(q.Options), Labels: maps.Clone(q.Labels),
		Held: &held{IPv4: enabled[false], IPv6: enabled[true]},
	}
	if q.IPAM != nil {
		if err := checkIPAM(q.IPAM.Config, enabled); err != nil {
			return "", err
		}
		u.Pools, u.IPAMDriver, u.IPAMOptions = slices.Clone(q.IPAM.Config), pluginOf(q), maps.Clone(q.IPAM.Options)
	}
	r := networkRecord{ID: ids.New(), Created: time.Now().UTC(), User: u}
	var batch store.Batch
	if err := putNetwork(&batch, q.Name, r); err != nil {
		return "", err
	}
	if err := n.c.Store.Commit(ctx, &batch); err != nil {
		return "", err
	}
	n.mu.Lock()
	n.records[q.Name] = r
	n.mu.Unlock()
	return r.ID, nil
}

// removeConfig removes a network that only holds a configuration. Errors:
// Forbidden while another network has it.
func (n *Networks) removeConfig(ctx context.Context, name string) error {
	n.mu.Lock()
	for _, r := range n.records {
		if r.User != nil && r.User.From == name {
			n.mu.Unlock()
			return errdefs.Forbiddenf("error while removing network: configuration network %q is in use", name)
		}
	}
	n.mu.Unlock()
	var batch store.Batch
	batch.Delete(networkBucket, name)
	if err := n.c.Store.Commit(ctx, &batch); err != nil {
		return err
	}
	n.mu.Lock()
	delete(n.records, name)
	n.mu.Unlock()
	return nil
}
