package e2e

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// dynamic are the fields whose keys are data, not words of the API.
var dynamic = []string{
	"Labels", "Annotations", "ExposedPorts", "Volumes", "PortBindings", "Ports", "Networks", "Tmpfs", "Sysctls", "Config.Options", "LogConfig.Config",
	"GraphDriver.Data", "DriverOpts", "annotations", "Options", "DriverOpts", "Containers", "IndexConfigs", "Runtimes", "Details", "StorageOpt", "Status", "UsageData", "Attributes",
}

// notOurs are fields of the recorded Docker that say something of its parts, or
// of the image and the container that it had.
var notOurs = []string{
	".Containerd", ".Containerd.Address", ".Containerd.Namespaces", ".Containerd.Namespaces.Containers", ".Containerd.Namespaces.Plugins",
	".FirewallBackend.Info", // of iptables
	".Runtimes{}.status", ".Runtimes{}.status.org.opencontainers.runtime-spec.features",
	".BuildTime", ".GitCommit", // the tests' binaries are built without them
	".Storage", ".Storage.RootFS", ".Storage.RootFS.Snapshot", ".Storage.RootFS.Snapshot.Name", // of containerd's store; GraphDriver is ours
	".Config.ExposedPorts",
	".ImageManifestDescriptor.annotations", "[].ImageManifestDescriptor.annotations", // of containerd's store
	".IPAM.Config[].IPRange",
}

// fields lists the fields of a value by their place: ".State.Pid", ".Mounts[].Type".
func fields(v any) []string {
	all := map[string]bool{}
	var walk func(at string, v any)
	walk = func(at string, v any) {
		switch v := v.(type) {
		case map[string]any:
			data := slices.ContainsFunc(dynamic, func(d string) bool { return strings.HasSuffix(at, "."+d) })
			for _, k := range slices.Sorted(maps.Keys(v)) {
				if data {
					walk(at+"{}", v[k])
					continue
				}
				all[at+"."+k] = true
				walk(at+"."+k, v[k])
			}
		case []any:
			for _, e := range v {
				walk(at+"[]", e)
			}
		}
	}
	walk("", v)
	return slices.Sorted(maps.Keys(all))
}

// missing compares an answer with one of a real Docker, which is in a file of
// internal/server/testdata, and returns the fields that only Docker's has.
func (a *api) missing(file string, answer []byte) []string {
	a.t.Helper()
	b, err := os.ReadFile(filepath.Join("../../internal/server/testdata", file))
	if err != nil {
		a.t.Fatal(err)
	}
	var docker struct{ Body any }
	var ours any
	if err := json.Unmarshal(b, &docker); err != nil {
		a.t.Fatal(err)
	}
	if err := json.Unmarshal(answer, &ours); err != nil {
		a.t.Fatal(err)
	}
	have := append(fields(ours), notOurs...)
	return slices.DeleteFunc(fields(docker.Body), func(f string) bool { return slices.Contains(have, f) })
}
