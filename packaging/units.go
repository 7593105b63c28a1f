package packaging

import (
	"embed"
	"path"
	"strings"
)

//go:embed systemd
var files embed.FS

// Units returns the units by their names, for programs below prefix.
func Units(prefix string) (map[string]string, error) {
	dir, err := files.ReadDir("systemd")
	if err != nil {
		return nil, err
	}
	paths := strings.NewReplacer("@bindir@", prefix+"/bin", "@sbindir@", prefix+"/sbin", "@libexecdir@", prefix+"/libexec")
	units := make(map[string]string, len(dir))
	for _, f := range dir {
		raw, err := files.ReadFile(path.Join("systemd", f.Name()))
		if err != nil {
			return nil, err
		}
		units[f.Name()] = paths.Replace(string(raw))
	}
	return units, nil
}
