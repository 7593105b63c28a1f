package main

import (
	"context"
	"flag"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/caps"
	"lade/internal/linux/service"
	"lade/internal/network/gate"
)

// version is set by the linker.
var version = "dev"

func main() {
	root := flag.String("root", "/run/lade", "`directory` of the control socket")
	next := flag.Bool("next", false, "take the place of the gate that runs there when told")
	printVersion := flag.Bool("version", false, "print the version and exit")
	flag.Parse()
	if *printVersion {
		os.Stdout.WriteString("lade-gate " + version + "\n")
		return
	}
	if err := run(*root, *next); err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
}

func run(root string, next bool) error {
	if !filepath.IsAbs(root) {
		return errdefs.Invalidf("--root %s: not an absolute path", root)
	}
	debug.SetGCPercent(50) // little lives long
	s, err := gate.Listen(root, version, next, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		return err
	}
	// For addresses that are not the host's, and for clients' ports below 1024.
	if err := caps.Reduce(1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_NET_BIND_SERVICE); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	if err := service.Detach(filepath.Join(root, "gate.log")); err != nil {
		return err
	}
	s.Run(ctx)
	return nil
}
