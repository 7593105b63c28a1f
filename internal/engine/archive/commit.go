package archive

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	apicontainer "github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"

	"lade/internal/digest"
	"lade/internal/engine/container"
	"lade/internal/errdefs"
	"lade/internal/image"
	"lade/internal/image/archive"
	"lade/internal/reference"
)

// letGo bounds how long continuing a container may take after a commit.
const letGo = 10 * time.Second

// CommitOptions is the request of ImageCommit.
type CommitOptions struct {
	Container string
	Reference string // repository and tag; "" leaves the image without a name
	Author    string
	Message   string
	Changes   []string             // Dockerfile instructions
	Config    *apicontainer.Config // nil: the container's
	Pause     bool                 // hold a running container meanwhile
}

// ImageCommit makes an image of a container: its image and one layer with what
// it changed in its own files, volumes apart. With Pause the container stands
// still while they are read. Errors: NotFound for the container or its image,
// Invalid for a reference or a change that cannot be, Conflict for a container
// that is being removed; then nothing has changed.
func (c *Copier) ImageCommit(ctx context.Context, o CommitOptions) (made apicontainer.CommitResponse, err error) {
	a, err := c.host.Find(o.Container)
	if err != nil {
		return made, err
	}
	r := a.View()
	switch r.State {
	case container.Dead:
		return made, errdefs.Conflictf("You cannot commit container %s which is Dead", r.ID)
	case container.Removing:
		return made, errdefs.Conflictf("You cannot commit container %s which is being removed", r.ID)
	}
	var names []reference.Reference
	if o.Reference != "" {
		ref, err := reference.Parse(o.Reference)
		if err != nil {
			return made, err
		}
		if ref.Digest != "" {
			return made, errdefs.Invalidf("refusing to create a tag with a digest reference")
		}
		names = []reference.Reference{ref.WithDefaultTag()}
	}
	config, err := commitConfig(r, o)
	if err != nil {
		return made, err
	}
	d, err := digest.Parse(r.ImageID)
	if err != nil {
		return made, err
	}
	base, err := c.images.Get(d)
	if err != nil {
		return made, err
	}
	img, err := archive.Commit(ctx, c.images, archive.CommitOptions{
		Base: base, Names: names, Config: config, Author: o.Author, Message: o.Message,
		CreatedBy: strings.Join(r.Config.Cmd, " "),
		Layer: func(w io.Writer) error {
			return c.still(ctx, a, o.Pause, func() error { return c.layer(ctx, r.ID, w) })
		},
	})
	if err != nil {
		return made, err
	}
	shown := ""
	if len(names) > 0 {
		shown = names[0].Familiar()
		c.host.PublishImage(events.ActionTag, img.ID.String(), shown)
	}
	c.host.Publish(r, events.ActionCommit, map[string]string{"comment": o.Message, "imageID": img.ID.String(), "imageRef": shown})
	made.ID = img.ID.String()
	return made, nil
}

// still calls f, with pause while the container does not run. One that cannot be
// paused, as it has ended or somebody did it before, stands still by itself.
func (c *Copier) still(ctx context.Context, a *container.Actor, pause bool, f func() error) (err error) {
	if pause && a.View().State == container.Running {
		let, holdErr := a.Hold(ctx)
		switch {
		case holdErr == nil:
			defer func() {
				ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), letGo)
				defer cancel()
				err = errors.Join(err, let(ctx))
			}()
		case errdefs.KindOf(holdErr) != errdefs.Conflict:
			return holdErr
		}
	}
	return f()
}

// commitConfig is the configuration of the new image: what the request says,
// changed by its instructions, and completed from the container's.
func commitConfig(r *container.Record, o CommitOptions) (dockerspec.DockerOCIImageConfig, error) {
	own := imageConfig(r.Config)
	out := own
	if o.Config != nil {
		out = imageConfig(o.Config)
	}
	if err := image.Change(&out, o.Changes); err != nil {
		return out, err
	}
	complete(&out, own)
	return out, nil
}

// imageConfig is what an image keeps of a container's configuration.
func imageConfig(c *apicontainer.Config) dockerspec.DockerOCIImageConfig {
	var out dockerspec.DockerOCIImageConfig
	out.User, out.Env, out.Entrypoint, out.Cmd = c.User, c.Env, c.Entrypoint, c.Cmd
	out.Volumes, out.WorkingDir, out.Labels, out.StopSignal = c.Volumes, c.WorkingDir, c.Labels, c.StopSignal
	for p := range c.ExposedPorts {
		if out.ExposedPorts == nil {
			out.ExposedPorts = map[string]struct{}{}
		}
		out.ExposedPorts[p.String()] = struct{}{}
	}
	out.Healthcheck, out.OnBuild, out.Shell = c.Healthcheck, c.OnBuild, c.Shell
	return out
}

// complete fills what c leaves open from the container's configuration, as
// Docker does: lists and maps are joined, c wins.
func complete(c *dockerspec.DockerOCIImageConfig, own dockerspec.DockerOCIImageConfig) {
	fill := func(s *string, from string) {
		if *s == "" {
			*s = from
		}
	}
	fill(&c.User, own.User)
	fill(&c.WorkingDir, own.WorkingDir)
	fill(&c.StopSignal, own.StopSignal)
	c.Labels, c.Volumes, c.ExposedPorts = join(c.Labels, own.Labels), join(c.Volumes, own.Volumes), join(c.ExposedPorts, own.ExposedPorts)
	for _, kv := range own.Env {
		k, _, _ := strings.Cut(kv, "=")
		if !slices.ContainsFunc(c.Env, func(have string) bool { name, _, _ := strings.Cut(have, "="); return name == k }) {
			c.Env = append(slices.Clip(c.Env), kv)
		}
	}
	if len(c.Entrypoint) == 0 {
		if len(c.Cmd) == 0 {
			c.Cmd = own.Cmd
		}
		if c.Entrypoint == nil {
			c.Entrypoint = own.Entrypoint
		}
	}
	if c.Healthcheck == nil {
		c.Healthcheck = own.Healthcheck
	}
}

// join returns the entries of both maps; those of a win.
func join[V any](a, b map[string]V) map[string]V {
	if len(b) == 0 {
		return a
	}
	out := maps.Clone(b)
	maps.Copy(out, a)
	return out
}
