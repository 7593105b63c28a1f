package logdriver

import (
	"cmp"
	"context"
	"maps"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"

	"lade/internal/errdefs"
	"lade/internal/supervisor/wire"
)

// Info is what a log says of its container.
type Info struct {
	ID, Name         string // without slash
	ImageID          string
	ImageName        string
	Command          string
	Created          time.Time
	Env              []string
	Labels           map[string]string
	DaemonName, Path string // of what is kept
}

// Log says what the supervisor does with a container's output; dir is the
// container's directory. It looks names of hosts up. Errors: Internal for a
// name that is not known, and those of Check.
func Log(ctx context.Context, c container.LogConfig, i Info, dir string) (wire.Log, error) {
	l := wire.Log{Driver: "none"}
	name, form, ok := File(c, i.ID)
	if ok {
		k, err := kept(c)
		if err != nil {
			return l, err
		}
		l = wire.Log{Driver: cmp.Or(string(form), "json-file"), Path: filepath.Join(dir, name), MaxSize: k.size, MaxFile: k.files, Compress: k.compress}
	}
	if c.Type == "none" {
		return l, nil
	}
	i.DaemonName, i.Path = "lade", l.Path
	fields, err := choose(c.Config, i)
	if err != nil {
		return l, err
	}
	label, err := expand(tag(c), i)
	if err != nil {
		return l, err
	}
	if !remote(c.Type) {
		if c.Type == "json-file" {
			l.Attrs = fields
			if label != "" {
				l.Attrs["tag"] = label
			}
		}
		return l, nil
	}
	t, err := parseTarget(c)
	if err != nil {
		return l, err
	}
	if size, err := units.RAMInBytes(c.Config["max-buffer-size"]); err == nil && size > 0 {
		t.MaxBuffer = size
	}
	t.Container, t.Name, t.Tag, t.Host = i.ID, i.Name, label, hostname()
	t.Fields = driverFields(c.Type, fields, label, i)
	if t.Network == "tcp" || t.Network == "udp" {
		if t.Addresses, err = resolve(ctx, t.Network, t.Addresses[0]); err != nil {
			return l, errdefs.Internalf("failed to initialize logging driver: %w", err)
		}
	}
	l.Target = &t
	return l, nil
}

// resolve looks a name up; an address stays what it is.
func resolve(ctx context.Context, network, address string) ([]string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	n, err := net.DefaultResolver.LookupPort(ctx, network, port)
	if err != nil {
		return nil, err
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	out := make([]string, 0, len(ips))
	for _, ip := range ips {
		out = append(out, netip.AddrPortFrom(ip.Unmap(), uint16(n)).String())
	}
	return out, nil
}

// driverFields gives what is sent with every message the driver's names.
func driverFields(driver string, chosen map[string]string, label string, i Info) map[string]string {
	out := map[string]string{}
	for k, v := range chosen {
		switch driver {
		case "gelf":
			k = "_" + strings.TrimPrefix(k, "_")
		case "journald":
			k = journalName(k)
		}
		if k != "" {
			out[k] = v
		}
	}
	switch driver {
	case "gelf":
		maps.Copy(out, map[string]string{
			"_container_id": i.ID, "_container_name": i.Name, "_image_id": i.ImageID, "_image_name": i.ImageName,
			"_command": i.Command, "_tag": label, "_created": i.Created.Format(time.RFC3339Nano),
		})
	case "journald":
		out["IMAGE_NAME"] = i.ImageName
	}
	return out
}

// journalName makes a name that journald takes: capitals, digits and
// underscores, not at the begin.
func journalName(k string) string {
	k = strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z':
			return r - 'a' + 'A'
		case 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
			return r
		}
		return '_'
	}, k)
	return strings.TrimLeft(k, "_")
}

// choose returns the labels and variables that the options labels, env and
// their regular expressions ask for.
func choose(o map[string]string, i Info) (map[string]string, error) {
	labels, err := regex(o, "labels-regex")
	if err != nil {
		return nil, err
	}
	env, err := regex(o, "env-regex")
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	pick(out, i.Labels, o["labels"], labels)
	if o["env"] == "" && env == nil {
		return out, nil
	}
	vars := map[string]string{}
	for _, kv := range i.Env {
		if k, v, ok := strings.Cut(kv, "="); ok {
			vars[k] = v
		}
	}
	pick(out, vars, o["env"], env)
	return out, nil
}

func pick(out, from map[string]string, names string, re *regexp.Regexp) {
	if names == "" && re == nil {
		return
	}
	wanted := strings.Split(names, ",")
	for k, v := range from {
		if slices.Contains(wanted, k) || re != nil && re.MatchString(k) {
			out[k] = v
		}
	}
}
