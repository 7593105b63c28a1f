package engine

import (
	"context"
	"io"

	apicontainer "github.com/moby/moby/api/types/container"

	"lade/internal/errdefs"
)

func (e *Engine) ContainerArchiveStat(ctx context.Context, name, path string) (apicontainer.PathStat, error) {
	return apicontainer.PathStat{}, errdefs.NotImplementedf("x")
}
func (e *Engine) ContainerArchive(ctx context.Context, name, path string) (Archive, error) {
	return Archive{}, errdefs.NotImplementedf("x")
}
func (e *Engine) ContainerArchiveExtract(ctx context.Context, name, path string, o ExtractOptions, content io.Reader) error {
	return errdefs.NotImplementedf("x")
}
func (e *Engine) ContainerChanges(ctx context.Context, name string) ([]apicontainer.FilesystemChange, error) {
	return nil, errdefs.NotImplementedf("x")
}
func (e *Engine) ContainerExport(ctx context.Context, name string, w io.Writer) error {
	return errdefs.NotImplementedf("x")
}
