package command

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/util/progress/progressui"
	moby "github.com/moby/moby/client"
	"github.com/tonistiigi/fsutil"
	"golang.org/x/sync/errgroup"

	ladeclient "lade/client"
	"lade/cmd/lade-build/unpack"
	"lade/internal/build"
)

// Main builds what the JSON of a build.Command says and returns the exit code.
func Main(ctx context.Context, command string) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	var c build.Command
	err := json.Unmarshal([]byte(command), &c)
	if err == nil {
		err = run(ctx, &c)
	}
	switch {
	case err == nil:
		return 0
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "canceled")
		return 130
	}
	fmt.Fprintln(os.Stderr, "ERROR:", err)
	return 1
}

func run(ctx context.Context, c *build.Command) error {
	var temp string // for what standard input brings; a build that needs none leaves none when it is killed
	var err error
	if c.Context == "-" || c.File == "-" {
		if temp, err = os.MkdirTemp("", "lade-build-"); err != nil {
			return err
		}
		defer os.RemoveAll(temp)
	}
	o := client.SolveOpt{Frontend: "dockerfile.v0", LocalMounts: map[string]fsutil.FS{}}
	if o.FrontendAttrs, err = attributes(c); err != nil {
		return err
	}
	if err := sources(ctx, c, &o, temp); err != nil {
		return err
	}
	engine := ladeclient.Options{}
	config, err := ladeclient.LoadConfig(engine.Dir())
	if err != nil {
		return err
	}
	if o.Session, err = served(c, config); err != nil {
		return err
	}
	named, err := outputs(c, &o)
	if err != nil {
		return err
	}
	if err := caches(c, &o); err != nil {
		return err
	}
	if c.Network == "host" {
		o.AllowedEntitlements = append(o.AllowedEntitlements, "network.host")
	}
	at, err := engine.Resolve(config)
	if err != nil {
		return err
	}
	api, err := at.Open("", "lade-build", nil)
	if err != nil {
		return err
	}
	defer api.Close()
	builder, err := connect(ctx, api)
	if err != nil {
		return err
	}
	defer builder.Close()
	id, err := solve(ctx, c, builder, o)
	if err != nil || !named {
		return err
	}
	if c.IDFile != "" {
		if err := os.WriteFile(c.IDFile, []byte(id), 0o644); err != nil {
			return err
		}
	}
	if c.Quiet {
		fmt.Println(id)
	}
	return nil
}

// connect returns a client of the engine's builder.
func connect(ctx context.Context, api *moby.Client) (*client.Client, error) {
	if _, err := api.Ping(ctx, moby.PingOptions{}); err != nil {
		return nil, err
	}
	return client.New(ctx, "",
		client.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return api.DialHijack(ctx, "/grpc", "h2c", nil)
		}),
		client.WithSessionDialer(func(ctx context.Context, proto string, meta map[string][]string) (net.Conn, error) {
			return api.DialHijack(ctx, "/session", proto, meta)
		}))
}

// solve has the image built, shows how it goes on, and returns the image's id.
func solve(ctx context.Context, c *build.Command, b *client.Client, o client.SolveOpt) (string, error) {
	mode := progressui.DisplayMode(c.Progress)
	if c.Quiet {
		mode = progressui.QuietMode
	}
	display, err := progressui.NewDisplay(os.Stderr, mode)
	if err != nil {
		return "", err
	}
	ch := make(chan *client.SolveStatus)
	var id string
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		resp, err := b.Solve(ctx, nil, o, ch)
		if err == nil {
			id = resp.ExporterResponse["containerimage.digest"]
		}
		return err
	})
	g.Go(func() error {
		_, err := display.UpdateFrom(context.WithoutCancel(ctx), ch) // until ch is closed
		return err
	})
	return id, g.Wait()
}

// sources offers the context and the Dockerfile.
func sources(ctx context.Context, c *build.Command, o *client.SolveOpt, temp string) error {
	if remote(c.Context) {
		o.FrontendAttrs["context"] = c.Context
		if c.File != "" {
			o.FrontendAttrs["filename"] = c.File
		}
		return nil
	}
	dir := c.Context
	if dir == "-" {
		if c.File == "-" {
			return errors.New("invalid argument: can't use stdin for both build context and dockerfile")
		}
		dir = filepath.Join(temp, "context")
		if err := input(ctx, os.Stdin, dir); err != nil {
			return err
		}
	}
	if fi, err := os.Stat(dir); err != nil {
		return fmt.Errorf("unable to prepare context: path %q not found", dir)
	} else if !fi.IsDir() {
		return fmt.Errorf("unable to prepare context: %q is not a directory", dir)
	}
	file := filepath.Join(dir, "Dockerfile")
	switch {
	case c.File == "-":
		file = filepath.Join(temp, "Dockerfile")
		b, err := io.ReadAll(os.Stdin)
		if err != nil {
			return err
		}
		if err := os.WriteFile(file, b, 0o600); err != nil {
			return err
		}
	case c.File != "" && c.Context == "-":
		file = filepath.Join(dir, c.File)
	case c.File != "":
		file = c.File
	}
	if _, err := os.Stat(file); err != nil {
		return fmt.Errorf("unable to prepare context: unable to evaluate symlinks in Dockerfile path: %w", err)
	}
	o.FrontendAttrs["filename"] = filepath.Base(file)
	for name, d := range map[string]string{"context": dir, "dockerfile": filepath.Dir(file)} {
		fs, err := fsutil.NewFS(d)
		if err != nil {
			return err
		}
		o.LocalMounts[name] = fs
	}
	return nil
}

// remote reports whether the engine fetches a context.
func remote(s string) bool {
	for _, p := range []string{"http://", "https://", "git://", "git@", "ssh://", "github.com/"} {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}

// input unpacks what comes on the standard input: a tar, or a Dockerfile alone.
func input(ctx context.Context, r io.Reader, dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	b := bufio.NewReaderSize(r, 1024)
	head, err := b.Peek(512)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if archive(head) {
		root, err := os.OpenRoot(dir)
		if err != nil {
			return err
		}
		defer root.Close()
		return unpack.Tar(ctx, b, root)
	}
	f, err := os.Create(filepath.Join(dir, "Dockerfile"))
	if err != nil {
		return err
	}
	_, err = io.Copy(f, b)
	return errors.Join(err, f.Close())
}

// archive tells a tar, compressed or not, by its beginning.
func archive(head []byte) bool {
	for _, magic := range []string{"\x1f\x8b", "BZh", "\x28\xb5\x2f\xfd"} {
		if bytes.HasPrefix(head, []byte(magic)) {
			return true
		}
	}
	return len(head) == 512 && bytes.Equal(head[257:262], []byte("ustar"))
}
