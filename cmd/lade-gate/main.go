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
	"lade/internal/network/gate"
)

// version is set by the linker.
var version = "dev"

func main() {
	root := flag.String("root", "/run/lade", "`directory` of the control socket")
	printVersion := flag.Bool("version", false, "print the version and exit")
	flag.Parse()
	if *printVersion {
		os.Stdout.WriteString("lade-gate " + version + "\n")
		return
	}
	if err := run(*root); err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
}

func run(root string) error {
	if !filepath.IsAbs(root) {
		return errdefs.Invalidf("--root %s: not an absolute path", root)
	}
	debug.SetGCPercent(50) // little lives long
	s, err := gate.Listen(root, version, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		return err
	}
	// For addresses that are not the host's, and for clients' ports below 1024.
	if err := caps.Reduce(1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_NET_BIND_SERVICE); err != nil {
		return err
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	if err := detach(root); err != nil {
		return err
	}
	s.Run(ctx)
	return nil
}

// detach says that the gate is ready, and gives up what connects it with who
// started it.
func detach(root string) error {
	f, err := os.OpenFile(filepath.Join(root, "gate.log"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	if _, err := os.Stdout.WriteString(gate.Ready); err != nil {
		return err
	}
	for _, d := range []struct{ from, to int }{{int(null.Fd()), 0}, {int(f.Fd()), 1}, {int(f.Fd()), 2}} {
		if err := unix.Dup3(d.from, d.to, 0); err != nil {
			return err
		}
	}
	return nil
}
