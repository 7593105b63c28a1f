package engine

import (
	"os"
	"path/filepath"

	"lade/internal/secret"
)

// checkSecrets looks at what containers have of the secrets and configs.
func (c *check) checkSecrets() error {
	there := map[string]bool{}
	for id, raw := range c.Store.Walk("secrets") {
		o, err := secret.Decode(raw)
		if err != nil {
			c.fault("secret or config %s: its record is damaged: %v", id, err)
			continue
		}
		there[o.ID] = true
	}
	if len(there) > 0 {
		if _, err := os.Stat(filepath.Join(c.Root, secretKey)); err != nil {
			c.fault("secrets and configs: their key: %v", err)
		}
	}
	for id, r := range c.containers {
		for _, ref := range r.Secrets {
			if !there[ref.ID] {
				c.fault("container %s: its %s %s does not exist", id, ref.Kind, ref.Name)
			}
		}
	}
	return nil
}
