// Package secret holds the commands on secrets and configs, which are the same
// but for a few words. lade's engine keeps them without a swarm.
//
// Sources: docs.docker.com/reference/cli/docker/secret and …/config, Docker
// Engine API (secrets/…, configs/…), docs/secrets.md.
package secret
