package daemon

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"lade/internal/registry"
)

// certDirs are where the files on registries are: lade's own, then those that
// an installation of Docker or containerd has already.
func certDirs() []string {
	return []string{"/etc/lade/certs.d", "/etc/docker/certs.d", "/etc/containerd/certs.d"}
}

// registryConfig is what the configuration says of registries.
func (p *parts) registryConfig(c *Config) registry.Config {
	r := p.registries
	r.Mirrors, r.Insecure, r.Registries = c.Mirrors, c.Insecure, c.Named
	r.Concurrency, r.Uploads, r.Total, r.Retries = c.MaxDownloads, c.MaxUploads, c.MaxTransfers, c.MaxDownloadAttempts
	return r
}

// hosts is the value of the option registries.
type hosts struct{ all *map[string]registry.Host }

// UnmarshalJSON reads an object with an object for each registry.
func (h hosts) UnmarshalJSON(raw []byte) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	return d.Decode(h.all)
}

// String names the registries; what is said of each has no short form.
func (h hosts) String() string {
	return "[" + strings.Join(slices.Sorted(maps.Keys(*h.all)), " ") + "]"
}
