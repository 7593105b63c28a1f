package server

import (
	"context"
	"net/http"
)

// Connection is what the owner of a listener knows of a connection.
type Connection struct {
	ReadOnly bool   // nothing may be changed, and no container entered
	Peer     string // who has the other end, for the log; may be ""
}

type connectionKey struct{}

// WithConnection returns a context for the requests of a connection.
func WithConnection(ctx context.Context, c Connection) context.Context {
	return context.WithValue(ctx, connectionKey{}, c)
}

func connectionOf(ctx context.Context) Connection {
	c, _ := ctx.Value(connectionKey{}).(Connection)
	return c
}

// reads reports whether the operation only tells what the engine knows: it
// changes nothing, reads no files of containers, images and volumes, enters no
// container and asks nobody outside.
func (r *route) reads() bool {
	if r.method != http.MethodGet && r.method != http.MethodHead {
		return false
	}
	switch r.operation {
	case "SystemPing", "SystemInfo", "SystemVersion", "SystemDiskUsage", "Events", "Metrics",
		"ContainerList", "ContainerInspect", "ContainerTop", "ContainerLogs", "ContainerChanges", "ContainerStats", "ExecInspect",
		"ImageList", "ImageInspect", "ImageHistory", "VolumeList", "VolumeInspect", "NetworkList", "NetworkInspect", "PluginList", "PluginInspect":
		return true
	}
	return false
}
