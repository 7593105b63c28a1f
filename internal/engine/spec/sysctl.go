package spec

import (
	"maps"
	"slices"
	"strings"

	"lade/internal/errdefs"
)

// ipcSysctls belong to the IPC namespace; see ipc_namespaces(7).
const ipcSysctls = " kernel.msgmax kernel.msgmnb kernel.msgmni kernel.sem kernel.shmall kernel.shmmax kernel.shmmni kernel.shm_rmid_forced "

// sysctls are the defaults of a network namespace of its own, and the
// container's. Only those of namespaces that the container does not share may
// be set.
func sysctls(in Input) (map[string]string, error) {
	if err := checkSysctls(in.Host.Sysctls, in.Namespaces); err != nil {
		return nil, err
	}
	out := map[string]string{}
	if in.Namespaces.Net == "" {
		maps.Copy(out, in.Facts.Sysctls)
	}
	for k, v := range in.Host.Sysctls {
		out[dotted(k)] = v
	}
	if len(out) == 0 {
		return nil, nil
	}
	return out, nil
}

// checkSysctls refuses sysctls that are not the container's own. Errors:
// Invalid.
func checkSysctls(all map[string]string, ns Namespaces) error {
	for _, name := range slices.Sorted(maps.Keys(all)) {
		k := dotted(name)
		// No part may be empty, whichever separates: "..", "//", a trailing dot.
		if parts := "/" + strings.ReplaceAll(name, ".", "/") + "/"; strings.Contains(parts, "//") || strings.ContainsAny(name, " \t\n\x00") {
			return errdefs.Invalidf("invalid sysctl name %q", name)
		}
		where := ""
		switch {
		case strings.HasPrefix(k, "net."):
			if ns.Net != "host" {
				continue
			}
			where = "network"
		case strings.HasPrefix(k, "fs.mqueue."), strings.Contains(ipcSysctls, " "+k+" "):
			if ns.IPC != "host" {
				continue
			}
			where = "IPC"
		case k == "kernel.domainname":
			if ns.UTS != "host" {
				continue
			}
			where = "UTS"
		case k == "kernel.hostname":
			return errdefs.Invalidf("sysctl %q is not allowed as it conflicts with the OCI 'hostname' field", name)
		default:
			return errdefs.Invalidf("sysctl %q is not in a separate kernel namespace", name)
		}
		return errdefs.Invalidf("sysctl %q is not allowed in the hosts %s namespace", name, where)
	}
	return nil
}

// dotted brings a name into the form with dots. Where slashes separate, a dot
// stands for itself, and the other way round: net/ipv4/conf/eth0.1/forwarding
// is net.ipv4.conf.eth0/1.forwarding.
//
// Source: sysctl.d(5).
func dotted(name string) string {
	if first := strings.IndexAny(name, "./"); first < 0 || name[first] == '.' {
		return name
	}
	return strings.Map(func(r rune) rune {
		switch r {
		case '/':
			return '.'
		case '.':
			return '/'
		}
		return r
	}, name)
}
