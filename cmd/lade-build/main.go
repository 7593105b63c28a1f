package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	buildkit "github.com/moby/buildkit/version"
	"github.com/sirupsen/logrus"

	"lade/cmd/lade-build/command"
	"lade/internal/build"
)

// version is set by the linker.
var version = "dev"

// ending is how long steps may take to end when lade-build does. What is left
// then is killed by laded.
const ending = 5 * time.Second

func main() {
	nameBuildKit()
	logrus.SetLevel(logrus.ErrorLevel) // BuildKit and containerd log by it
	if len(os.Args) > 1 && os.Args[1] == "--version" {
		fmt.Println("lade-build version", version)
		return
	}
	if len(os.Args) == 3 && os.Args[1] == build.CommandVerb {
		os.Exit(command.Main(context.Background(), os.Args[2]))
	}
	if len(os.Args) < 2 || os.Args[1] != build.ServeVerb {
		fmt.Fprintln(os.Stderr, "lade-build: this program is started by laded, and by lade build")
		os.Exit(2)
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "lade-build:", err)
		os.Exit(1)
	}
}

// nameBuildKit gives BuildKit the version that it has, which clients show.
func nameBuildKit() {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return
	}
	for _, m := range info.Deps {
		if m.Path == "github.com/moby/buildkit" {
			buildkit.Version = m.Version
		}
	}
}

// run serves until laded has gone or wants it to end.
func run() error {
	c, life, err := readConfig(os.Stdin)
	if err != nil {
		return fmt.Errorf("laded has not said how to build: %w", err)
	}
	l, err := listener()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		_, _ = io.Copy(io.Discard, life) // its end is all that it says
		cancel()
	}()
	s, err := newService(ctx, c)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: s.handler(), BaseContext: func(net.Listener) context.Context { return ctx }}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	time.AfterFunc(ending, func() { os.Exit(1) })
	err = errors.Join(err, server.Close())
	s.end()
	return err
}

// readConfig reads the line that laded writes.
func readConfig(r io.Reader) (c build.Config, rest io.Reader, err error) {
	b := bufio.NewReader(r)
	line, err := b.ReadBytes('\n')
	if err != nil {
		return c, nil, err
	}
	return c, b, json.Unmarshal(line, &c)
}

// listener is the socket on which laded's connections come.
func listener() (net.Listener, error) {
	f := os.NewFile(build.ListenerFD, "listener")
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // it is laded's
	return l, nil
}
