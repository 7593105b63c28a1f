// Package network holds the commands on networks.
//
// Sources: docs.docker.com/reference/cli/docker/network, Docker Engine API
// (networks/…).
package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"
	moby "github.com/moby/moby/client"
	"github.com/spf13/pflag"

	"lade/internal/cli/app"
	"lade/internal/cli/format"
	"lade/internal/cli/opt"
)

// Group is the group of commands on networks.
func Group() app.Command {
	return app.Command{Use: "network", Short: "Manage networks", Sub: []app.Command{
		{Use: "connect [OPTIONS] NETWORK CONTAINER", Short: "Connect a container to a network", Args: app.Exactly(2), Build: buildConnect},
		{Use: "create [OPTIONS] NETWORK", Short: "Create a network", Args: app.Exactly(1), Build: buildCreate},
		{Use: "disconnect [OPTIONS] NETWORK CONTAINER", Short: "Disconnect a container from a network", Args: app.Exactly(2), Build: buildDisconnect},
		{Use: "inspect [OPTIONS] NETWORK [NETWORK...]", Short: "Display detailed information on one or more networks", Args: app.AtLeast(1), Build: buildInspect},
		{Use: "ls [OPTIONS]", Short: "List networks", Args: app.None(), Paths: []string{"network ls", "network list"}, Build: buildList},
		{Use: "prune [OPTIONS]", Short: "Remove all unused networks", Args: app.None(), Build: buildPrune},
		{Use: "rm NETWORK [NETWORK...]", Short: "Remove one or more networks", Args: app.AtLeast(1), Paths: []string{"network rm", "network remove"}, Build: buildRemove},
	}}
}

func buildConnect(e *app.Env, f *pflag.FlagSet) app.Run {
	ip := f.String("ip", "", `IPv4 address (e.g., "172.30.100.104")`)
	ip6 := f.String("ip6", "", `IPv6 address (e.g., "2001:db8::33")`)
	links := opt.NewList(opt.Link)
	f.Var(links, "link", "Add link to another container")
	aliases := f.StringSlice("alias", nil, "Add network-scoped alias for the container")
	local := f.StringSlice("link-local-ip", nil, "Add a link-local address for the container")
	options := f.StringSlice("driver-opt", nil, "driver options for the network")
	priority := f.Int("gw-priority", 0, "Highest gw-priority provides the default gateway. Accepts positive and negative values.")
	return func(ctx context.Context, args []string) error {
		ep := &network.EndpointSettings{IPAMConfig: &network.EndpointIPAMConfig{}, Links: links.Values(), Aliases: *aliases, DriverOpts: map[string]string{}, GwPriority: *priority}
		for _, o := range *options {
			k, v, ok := strings.Cut(o, "=")
			if k = strings.TrimSpace(k); !ok || k == "" {
				return errors.New("invalid key/value pair format in driver options")
			}
			ep.DriverOpts[k] = strings.TrimSpace(v)
		}
		var err error
		for _, a := range []struct {
			text string
			to   *netip.Addr
		}{{*ip, &ep.IPAMConfig.IPv4Address}, {*ip6, &ep.IPAMConfig.IPv6Address}} {
			if a.text == "" {
				continue
			}
			if *a.to, err = netip.ParseAddr(a.text); err != nil {
				return fmt.Errorf("invalid IP address: %s", a.text)
			}
		}
		for _, l := range *local {
			a, err := netip.ParseAddr(l)
			if err != nil {
				return fmt.Errorf("invalid IP address: %s", l)
			}
			ep.IPAMConfig.LinkLocalIPs = append(ep.IPAMConfig.LinkLocalIPs, a)
		}
		api, err := e.API()
		if err != nil {
			return err
		}
		_, err = api.NetworkConnect(ctx, args[0], moby.NetworkConnectOptions{Container: args[1], EndpointConfig: ep})
		return err
	}
}

func buildDisconnect(e *app.Env, f *pflag.FlagSet) app.Run {
	force := f.BoolP("force", "f", false, "Force the container to disconnect from a network")
	return func(ctx context.Context, args []string) error {
		api, err := e.API()
		if err != nil {
			return err
		}
		_, err = api.NetworkDisconnect(ctx, args[0], moby.NetworkDisconnectOptions{Container: args[1], Force: *force})
		return err
	}
}

// addressing are the flags about addresses.
type addressing struct {
	driver                    *string
	subnets, ranges, gateways *[]string
	aux, options              *opt.Map
}

func buildCreate(e *app.Env, f *pflag.FlagSet) app.Run {
	var o moby.NetworkCreateOptions
	f.StringVarP(&o.Driver, "driver", "d", "bridge", "Driver to manage the Network")
	options := opt.NewMap(nil)
	f.VarP(options, "opt", "o", "Set driver specific options")
	labels := opt.NewList(opt.Label)
	f.Var(labels, "label", "Set metadata on a network")
	f.BoolVar(&o.Internal, "internal", false, "Restrict external access to the network")
	ipv4 := f.Bool("ipv4", true, "Enable or disable IPv4 address assignment")
	ipv6 := f.Bool("ipv6", false, "Enable or disable IPv6 address assignment")
	f.BoolVar(&o.Attachable, "attachable", false, "Enable manual container attachment")
	f.BoolVar(&o.Ingress, "ingress", false, "Create swarm routing-mesh network")
	f.StringVar(&o.Scope, "scope", "", "Control the network's scope")
	f.BoolVar(&o.ConfigOnly, "config-only", false, "Create a configuration only network")
	f.StringVar(&o.ConfigFrom, "config-from", "", "The network from which to copy the configuration")
	a := addressing{
		driver:   f.String("ipam-driver", "default", "IP Address Management Driver"),
		subnets:  f.StringSlice("subnet", nil, "Subnet in CIDR format that represents a network segment"),
		ranges:   f.StringSlice("ip-range", nil, "Allocate container ip from a sub-range"),
		gateways: f.StringSlice("gateway", nil, "IPv4 or IPv6 Gateway for the master subnet"),
		aux:      opt.NewMap(nil), options: opt.NewMap(nil),
	}
	f.Var(a.aux, "aux-address", "Auxiliary IPv4 or IPv6 addresses used by Network driver")
	f.Var(a.options, "ipam-opt", "Set IPAM driver specific options")
	return func(ctx context.Context, args []string) error {
		o.Options, o.Labels = options.Values(), opt.Pairs(labels.Values())
		if f.Changed("ipv4") {
			o.EnableIPv4 = ipv4
		}
		if f.Changed("ipv6") {
			o.EnableIPv6 = ipv6
		}
		var err error
		if o.IPAM, err = a.ipam(); err != nil {
			return err
		}
		api, err := e.API()
		if err != nil {
			return err
		}
		res, err := api.NetworkCreate(ctx, args[0], o)
		if err != nil {
			return err
		}
		return e.Println(res.ID)
	}
}

// ipam assigns ranges, gateways and auxiliary addresses to the subnets that
// contain them.
func (a *addressing) ipam() (*network.IPAM, error) {
	if len(*a.subnets) < len(*a.ranges) || len(*a.subnets) < len(*a.gateways) {
		return nil, errors.New("every ip-range or gateway must have a corresponding subnet")
	}
	out := &network.IPAM{Driver: *a.driver, Options: a.options.Values(), Config: []network.IPAMConfig{}}
	for _, s := range *a.subnets {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("invalid subnet: invalid CIDR address: %s", s)
		}
		if slices.ContainsFunc(out.Config, func(c network.IPAMConfig) bool { return c.Subnet.Overlaps(p) }) {
			return nil, errors.New("multiple overlapping subnet configuration is not supported")
		}
		out.Config = append(out.Config, network.IPAMConfig{Subnet: p, AuxAddress: map[string]netip.Addr{}})
	}
	in := func(ip netip.Addr) *network.IPAMConfig {
		for i := range out.Config {
			if out.Config[i].Subnet.Masked().Contains(ip) {
				return &out.Config[i]
			}
		}
		return nil
	}
	for _, r := range *a.ranges {
		p, err := netip.ParsePrefix(r)
		if err != nil {
			return nil, fmt.Errorf("invalid CIDR address: %s", r)
		}
		c := in(p.Addr())
		switch {
		case c == nil:
			return nil, fmt.Errorf("no matching subnet for range %s", r)
		case c.IPRange.IsValid():
			return nil, fmt.Errorf("cannot configure multiple ranges (%s, %s) on the same subnet (%s)", r, c.IPRange, c.Subnet)
		}
		c.IPRange = p
	}
	for _, g := range *a.gateways {
		ip, err := netip.ParseAddr(g)
		if err != nil {
			return nil, fmt.Errorf("no matching subnet for gateway %s", g)
		}
		c := in(ip)
		switch {
		case c == nil:
			return nil, fmt.Errorf("no matching subnet for gateway %s", g)
		case c.Gateway.IsValid():
			return nil, fmt.Errorf("cannot configure multiple gateways (%s, %s) for the same subnet (%s)", g, c.Gateway, c.Subnet)
		}
		c.Gateway = ip
	}
	for name, text := range a.aux.Values() {
		ip, err := netip.ParseAddr(text)
		c := in(ip)
		if err != nil || c == nil {
			return nil, fmt.Errorf("no matching subnet for aux-address %s", text)
		}
		c.AuxAddress[name] = ip
	}
	return out, nil
}

func buildInspect(e *app.Env, f *pflag.FlagSet) app.Run {
	layout := f.StringP("format", "f", "", app.InspectFormat)
	verbose := f.BoolP("verbose", "v", false, "Verbose output for diagnostics")
	return func(ctx context.Context, args []string) error {
		api, err := e.API()
		if err != nil {
			return err
		}
		return app.Inspect(e, args, *layout, Lookup(ctx, api, *verbose))
	}
}

// Lookup finds networks for inspect.
func Lookup(ctx context.Context, api *moby.Client, verbose bool) format.Lookup {
	return func(ref string) (any, []byte, error) {
		res, err := api.NetworkInspect(ctx, ref, moby.NetworkInspectOptions{Verbose: verbose})
		return res.Network, res.Raw, err
	}
}

func buildList(e *app.Env, f *pflag.FlagSet) app.Run {
	var filter opt.Filter
	quiet := f.BoolP("quiet", "q", false, "Only display network IDs")
	full := f.Bool("no-trunc", false, "Do not truncate the output")
	layout := f.String("format", "", app.TableFormat)
	f.VarP(&filter, "filter", "f", `Provide filter values (e.g. "driver=bridge")`)
	return func(ctx context.Context, _ []string) error {
		api, err := e.API()
		if err != nil {
			return err
		}
		res, err := api.NetworkList(ctx, moby.NetworkListOptions{Filters: filter.Values()})
		if err != nil {
			return err
		}
		if *layout == "" && !*quiet {
			*layout = e.Config().Format("networksFormat")
		}
		show := cmp.Or(*layout, format.Table)
		switch {
		case show == format.Table && *quiet:
			show = "{{.ID}}"
		case show == format.Table:
			show = "table {{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}"
		case show == "raw" && *quiet:
			show = "network_id: {{.ID}}"
		case show == "raw":
			show = "network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n"
		}
		slices.SortFunc(res.Items, func(a, b network.Summary) int { return format.Natural(a.Name, b.Name) })
		rows := make([]format.Row, 0, len(res.Items))
		for i := range res.Items {
			n := &res.Items[i]
			id := n.ID
			if !*full {
				id = format.ShortID(id)
			}
			r := format.Row{
				"ID": id, "Name": n.Name, "Driver": n.Driver, "Scope": n.Scope, "IPv4": strconv.FormatBool(n.EnableIPv4), "IPv6": strconv.FormatBool(n.EnableIPv6),
				"Internal": strconv.FormatBool(n.Internal), "Labels": format.Labels(n.Labels), "CreatedAt": n.Created.String(),
			}
			r.SetLabels(n.Labels)
			rows = append(rows, r)
		}
		return format.Write(e.Out, show, format.Header{
			format.Kind: "network.networkContext",
			"ID":        "NETWORK ID", "Name": "NAME", "Driver": "DRIVER", "Scope": "SCOPE", "IPv4": "IPV4", "IPv6": "IPV6",
			"Internal": "INTERNAL", "Labels": "LABELS", "CreatedAt": "CREATED AT",
		}, rows)
	}
}

func buildRemove(e *app.Env, f *pflag.FlagSet) app.Run {
	force := f.BoolP("force", "f", false, "Do not error if the network does not exist")
	return func(ctx context.Context, args []string) error {
		api, err := e.API()
		if err != nil {
			return err
		}
		failed := false
		for _, name := range args {
			_, err := api.NetworkRemove(ctx, name, moby.NetworkRemoveOptions{})
			switch {
			case err == nil:
				if err := e.Println(name); err != nil {
					return err
				}
			case *force && errdefs.IsNotFound(err):
			default:
				e.Complain(err)
				failed = true
			}
		}
		if failed {
			return &app.Exit{Code: 1, Msg: "exit status 1"}
		}
		return nil
	}
}

func buildPrune(e *app.Env, f *pflag.FlagSet) app.Run {
	var filter opt.Filter
	force := f.BoolP("force", "f", false, "Do not prompt for confirmation")
	f.Var(&filter, "filter", `Provide filter values (e.g. "until=<timestamp>")`)
	return func(ctx context.Context, _ []string) error {
		if !*force {
			if err := e.ConfirmPrune("network prune", "WARNING! This will remove all custom networks not used by at least one container.\nAre you sure you want to continue?"); err != nil {
				return err
			}
		}
		out, err := Prune(ctx, e, &filter)
		if err != nil || out == "" {
			return err
		}
		return e.Println(out)
	}
}

// Prune removes unused networks and returns what it did, in words.
func Prune(ctx context.Context, e *app.Env, given *opt.Filter) (string, error) {
	filter := given.Clone()
	e.AddPruneFilters(filter)
	api, err := e.API()
	if err != nil {
		return "", err
	}
	res, err := api.NetworkPrune(ctx, moby.NetworkPruneOptions{Filters: filter.Values()})
	if err != nil || len(res.Report.NetworksDeleted) == 0 {
		return "", err
	}
	return "Deleted Networks:\n" + strings.Join(res.Report.NetworksDeleted, "\n") + "\n", nil
}
