package engine

import (
	"context"
	"net"
	"net/url"
	"path"
	"path/filepath"
	"strconv"

	apibuild "github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/events"

	"lade/internal/build"
	"lade/internal/engine/builder"
	"lade/internal/engine/pull"
	"lade/internal/ids"
	"lade/internal/image"
)

// newBuilder makes the part that builds images.
func (e *Engine) newBuilder() *builder.Builder {
	parent := e.settings().Defaults.CgroupParent
	if parent == "" || e.Facts.Systemd { // those of steps are made directly, beside the slices
		parent = "lade"
	}
	return builder.New(builder.Config{
		Programs: e.Config.Builder, Version: e.Build.Version,
		Root: filepath.Join(e.Root, "build"), Run: filepath.Join(e.ExecRoot, "build"), Blobs: filepath.Join(e.Root, "content", "blobs", "sha256"),
		Images: e.Images, Snapshots: e.Snapshots, Networks: e.Networks, Cgroups: e.Cgroups,
		Group: path.Join("/", parent, "build-"+ids.Truncate(e.id)),
		Pull: func(ctx context.Context, q build.ImageRequest, tell image.Progress) error {
			return e.ImagePull(ctx, pull.Options{Reference: q.Reference, Platform: q.Platform, Auth: q.Auth, Progress: tell})
		},
		Publish: e.PublishImage, Logger: e.log,
		Settings: func(c *build.Config) {
			d := e.settings().Defaults
			c.DNS, c.DNSSearch, c.DNSOptions, c.AppArmor = d.DNS, d.DNSSearch, d.DNSOptions, d.Security.AppArmor
		},
	})
}

// BuildDial connects with the builder, which speaks the part of the API that
// builds: POST /build, /build/cancel, /session and /grpc. Errors: Unavailable.
func (e *Engine) BuildDial(ctx context.Context) (net.Conn, error) { return e.builder.Dial(ctx) }

// BuildPrune removes of the build cache what the parameters say; see the API.
// Errors: Invalid.
func (e *Engine) BuildPrune(ctx context.Context, q url.Values) (*apibuild.CachePruneReport, error) {
	report, err := e.builder.Prune(ctx, q)
	if err == nil {
		e.events.Publish(events.BuilderEventType, events.ActionPrune, "", map[string]string{"reclaimed": strconv.FormatUint(report.SpaceReclaimed, 10)})
	}
	return report, err
}
