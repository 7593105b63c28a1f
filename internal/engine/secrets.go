package engine

import (
	"strings"

	"lade/internal/engine/container"
	"lade/internal/errdefs"
	"lade/internal/secret"
)

// secretKey is the name of the key's file in the data root.
const secretKey = "secret.key"

// askedSecrets resolves what a container's annotations ask for. Errors: Invalid,
// NotFound.
func (e *host) askedSecrets(annotations map[string]string) ([]secret.Reference, error) {
	refs, err := secret.Asked(annotations)
	if err != nil {
		return nil, err
	}
	return refs, e.secrets.Resolve(refs)
}

// checkSecretTargets refuses, at create, what start would refuse: a file on
// what is mounted for another reason. Errors: Invalid.
func checkSecretTargets(r *container.Record) error {
	for _, ref := range r.Secrets {
		for _, m := range r.Mounts {
			if m.Destination == ref.Target {
				return errdefs.Invalidf("Duplicate mount point: %s", ref.Target)
			}
		}
		if strings.HasPrefix(ref.Target, "/proc/") || strings.HasPrefix(ref.Target, "/sys/") || ref.Target == "/dev" {
			return errdefs.Invalidf("invalid target of %s %s: %s", ref.Kind, ref.Name, ref.Target)
		}
	}
	return nil
}

// nameOf returns what a container is called, or its id while it has no name.
func (e *host) nameOf(id string) string {
	a, err := e.containers.find(id)
	if err != nil { // it is being created
		return id
	}
	return a.View().Name
}
