package image

import (
	"github.com/spf13/pflag"

	"lade/internal/cli/app"
)

// Group is the group of commands on images.
func Group() app.Command {
	return app.Command{Use: "image", Short: "Manage images", Sub: []app.Command{
		{Use: "build [OPTIONS] PATH | URL | -", Short: "Build an image from a Dockerfile", Args: app.Exactly(1), Paths: []string{"image build", "build"}, Top: 4, Build: buildBuild},
		{Use: "history [OPTIONS] IMAGE", Short: "Show the history of an image", Args: app.Exactly(1), Paths: []string{"image history", "history"}, Build: buildHistory},
		{Use: "import [OPTIONS] file|URL|- [REPOSITORY[:TAG]]", Short: "Import the contents from a tarball to create a filesystem image", Args: app.AtLeast(1), Paths: []string{"image import", "import"}, Build: buildImport},
		{Use: "inspect [OPTIONS] IMAGE [IMAGE...]", Short: "Display detailed information on one or more images", Args: app.AtLeast(1), Build: buildInspect},
		{Use: "load [OPTIONS]", Short: "Load an image from a tar archive or STDIN", Args: app.None(), Paths: []string{"image load", "load"}, Build: buildLoad},
		{Use: "ls [OPTIONS] [REPOSITORY[:TAG]]", Short: "List images", Args: app.AtMost(1), Paths: []string{"image ls", "image list", "images"}, Top: 7, Build: buildList(false)},
		{Use: "prune [OPTIONS]", Short: "Remove unused images", Args: app.None(), Build: buildPrune},
		{Use: "pull [OPTIONS] NAME[:TAG|@DIGEST]", Short: "Download an image from a registry", Args: app.Exactly(1), Paths: []string{"image pull", "pull"}, Top: 5, Build: buildPull},
		{Use: "push [OPTIONS] NAME[:TAG]", Short: "Upload an image to a registry", Args: app.Exactly(1), Paths: []string{"image push", "push"}, Top: 6, Build: buildPush},
		{Use: "rm [OPTIONS] IMAGE [IMAGE...]", Short: "Remove one or more images", Args: app.AtLeast(1), Aliases: []string{"rmi"}, Paths: []string{"image rm", "image remove", "rmi"}, Build: buildRemove},
		{Use: "save [OPTIONS] IMAGE [IMAGE...]", Short: "Save one or more images to a tar archive (streamed to STDOUT by default)", Args: app.AtLeast(1), Paths: []string{"image save", "save"}, Build: buildSave},
		{Use: "tag SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", Short: "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE", Args: app.Exactly(2), Paths: []string{"image tag", "tag"}, Build: buildTag},
	}}
}

// Images is the list under its old name, which people mistake for the group's.
func Images(e *app.Env, f *pflag.FlagSet) app.Run { return buildList(true)(e, f) }
