package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/distribution/reference"
	"github.com/moby/moby/api/types/auxprogress"
	moby "github.com/moby/moby/client"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/pflag"

	"lade/internal/cli/app"
	"lade/internal/cli/opt"
	"lade/internal/cli/progress"
	"lade/internal/cli/terminal"
)

// tagged parses an image's name for pull and push; without a tag it is latest,
// which is told unless quiet.
func tagged(e *app.Env, name string, all, quiet bool) (reference.Named, error) {
	ref, err := reference.ParseNormalizedNamed(name)
	switch {
	case err != nil:
		return nil, err
	case all && !reference.IsNameOnly(ref):
		return nil, errors.New("tag can't be used with --all-tags/-a")
	case !all && reference.IsNameOnly(ref):
		ref = reference.TagNameOnly(ref)
		if !quiet {
			return ref, e.Println("Using default tag: latest")
		}
	}
	return ref, nil
}

func buildPull(e *app.Env, f *pflag.FlagSet) app.Run {
	all := f.BoolP("all-tags", "a", false, "Download all tagged images in the repository")
	quiet := f.BoolP("quiet", "q", false, "Suppress verbose output")
	platform := app.PlatformFlag(f)
	app.TrustFlag(f, "verification")
	return func(ctx context.Context, args []string) error {
		ref, err := tagged(e, args[0], *all, *quiet)
		if err != nil {
			return err
		}
		o := moby.ImagePullOptions{All: *all}
		if o.RegistryAuth, err = e.RegistryAuth(ref); err != nil {
			return err
		}
		if *platform != "" {
			p, err := opt.Platform(*platform)
			if err != nil {
				return err
			}
			o.Platforms = []ocispec.Platform{*p}
		}
		api, err := e.API()
		if err != nil {
			return err
		}
		body, err := api.ImagePull(ctx, reference.FamiliarString(ref), o)
		if err != nil {
			return err
		}
		defer body.Close()
		if err := progress.Show(ctx, body, progressOut(e, *quiet), nil); err != nil {
			return err
		}
		return e.Println(ref.String())
	}
}

func buildPush(e *app.Env, f *pflag.FlagSet) app.Run {
	all := f.BoolP("all-tags", "a", false, "Push all tags of an image to the repository")
	quiet := f.BoolP("quiet", "q", false, "Suppress verbose output")
	app.TrustFlag(f, "signing")
	platform := f.String("platform", os.Getenv("DOCKER_DEFAULT_PLATFORM"), `Push a platform-specific manifest as a single-platform image to the registry.
Image index won't be pushed, meaning that other manifests, including attestations won't be preserved.
'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)`)
	return func(ctx context.Context, args []string) error {
		o := moby.ImagePushOptions{All: *all}
		var err error
		if *platform != "" {
			if o.Platform, err = opt.Platform(*platform); err != nil {
				return err
			}
			e.Complain("Using --platform pushes only the specified platform manifest of a multi-platform image index.\nOther components, like attestations, will not be included.\nTo push the complete multi-platform image, remove the --platform flag.")
		}
		ref, err := tagged(e, args[0], *all, *quiet)
		if err != nil {
			return err
		}
		if o.RegistryAuth, err = e.RegistryAuth(ref); err != nil {
			return err
		}
		if o.RegistryAuth == "" {
			o.RegistryAuth = "e30=" // {}: the engine insists on the header
		}
		api, err := e.API()
		if err != nil {
			return err
		}
		body, err := api.ImagePush(ctx, reference.FamiliarString(ref), o)
		if err != nil {
			return err
		}
		defer body.Close()
		var notes []string
		err = progress.Show(ctx, body, progressOut(e, *quiet), func(aux json.RawMessage) { notes = append(notes, pushNotes(aux)...) })
		for _, n := range notes {
			e.Complain(n)
		}
		if err == nil && *quiet {
			return e.Println(ref.String())
		}
		return err
	}
}

// progressOut returns where progress is shown: nowhere if quiet.
func progressOut(e *app.Env, quiet bool) *terminal.Out {
	if quiet {
		return terminal.NewOut(io.Discard)
	}
	return e.Out
}

// pushNotes are what the engine reports of an index of which not all was there.
func pushNotes(aux json.RawMessage) (notes []string) {
	var single auxprogress.ManifestPushedInsteadOfIndex
	if json.Unmarshal(aux, &single) == nil && single.ManifestPushedInsteadOfIndex {
		notes = append(notes, fmt.Sprintf("Not all multiplatform-content is present and only the available single-platform image was pushed\n%s -> %s",
			single.OriginalIndex.Digest, single.SelectedManifest.Digest))
	}
	var missing auxprogress.ContentMissing
	if json.Unmarshal(aux, &missing) == nil && missing.ContentMissing {
		notes = append(notes, "The image references several platforms, not all of which are available here or at the registry.\nUse --platform to push one of them.")
	}
	return notes
}

func buildLoad(e *app.Env, f *pflag.FlagSet) app.Run {
	input := f.StringP("input", "i", "", "Read from tar archive file, instead of STDIN")
	quiet := f.BoolP("quiet", "q", false, "Suppress the load output")
	platform := f.String("platform", "", `Load only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")`)
	return func(ctx context.Context, _ []string) error {
		var in io.Reader = e.In
		if *input != "" {
			file, err := os.Open(*input)
			if err != nil {
				return err
			}
			defer file.Close()
			in = file
		} else if e.In.IsTerminal() {
			return errors.New("requested load from stdin, but stdin is empty")
		}
		opts := []moby.ImageLoadOption{moby.ImageLoadWithQuiet(*quiet || !e.Out.IsTerminal())}
		if *platform != "" {
			p, err := opt.Platform(*platform)
			if err != nil {
				return fmt.Errorf("invalid platform: %w", err)
			}
			opts = append(opts, moby.ImageLoadWithPlatforms(*p))
		}
		api, err := e.API()
		if err != nil {
			return err
		}
		body, err := api.ImageLoad(ctx, in, opts...)
		if err != nil {
			return err
		}
		defer body.Close()
		return progress.Show(ctx, body, e.Out, nil)
	}
}

func buildSave(e *app.Env, f *pflag.FlagSet) app.Run {
	output := f.StringP("output", "o", "", "Write to a file, instead of STDOUT")
	platform := f.String("platform", "", `Save only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")`)
	return func(ctx context.Context, args []string) error {
		var opts []moby.ImageSaveOption
		if *platform != "" {
			p, err := opt.Platform(*platform)
			if err != nil {
				return fmt.Errorf("invalid platform: %w", err)
			}
			opts = append(opts, moby.ImageSaveWithPlatforms(*p))
		}
		return app.Save(e, *output, "image", func() (io.ReadCloser, error) {
			api, err := e.API()
			if err != nil {
				return nil, err
			}
			return api.ImageSave(ctx, args, opts...)
		})
	}
}

func buildImport(e *app.Env, f *pflag.FlagSet) app.Run {
	changes := opt.NewList(nil)
	f.VarP(changes, "change", "c", "Apply Dockerfile instruction to the created image")
	message := f.StringP("message", "m", "", "Set commit message for imported image")
	platform := app.PlatformFlag(f)
	return func(ctx context.Context, args []string) error {
		src := moby.ImageImportSource{SourceName: args[0]}
		switch {
		case args[0] == "-":
			src.Source = e.In
		case strings.HasPrefix(args[0], "https://"), strings.HasPrefix(args[0], "http://"):
			// The engine fetches it.
		default:
			file, err := os.Open(args[0])
			if err != nil {
				return err
			}
			defer file.Close()
			src.Source, src.SourceName = file, "-"
		}
		o := moby.ImageImportOptions{Message: *message, Changes: changes.Values()}
		if *platform != "" {
			p, err := opt.Platform(*platform)
			if err != nil {
				return err
			}
			o.Platform = *p
		}
		ref := ""
		if len(args) > 1 {
			ref = args[1]
		}
		api, err := e.API()
		if err != nil {
			return err
		}
		body, err := api.ImageImport(ctx, src, ref, o)
		if err != nil {
			return err
		}
		defer body.Close()
		return progress.Show(ctx, body, e.Out, nil)
	}
}
