// Command lade-supervisor is the parent of every container's processes; laded
// starts it and asks it for everything. See internal/supervisor/server.
package main

import (
	"flag"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	goruntime "runtime"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/cgroup"
	"lade/internal/linux/service"
	"lade/internal/linux/sys"
	"lade/internal/runtime"
	"lade/internal/supervisor/server"
	"lade/internal/trace"
)

// version is set by the linker.
var version = "dev"

func main() {
	// First of all: a container must never get hold of this program.
	if err := runtime.Shield(); err != nil {
		os.Stderr.WriteString("lade-supervisor: " + err.Error() + "\n")
		os.Exit(1)
	}
	// More processors than the starts keep busy: one that waits in a system call
	// is taken away only when the monitor wakes.
	sys.CalmMonitor(5 * time.Millisecond)
	goruntime.GOMAXPROCS(3)
	root := flag.String("root", "/run/lade", "`directory` of the socket and the exit records, on a tmpfs")
	initPath := flag.String("init", "", "`path` of lade-init")
	idleExit := flag.Duration("idle-exit", 10*time.Second, "end after this `time` with nothing to watch and nobody connected; 0: never")
	foreground := flag.Bool("foreground", false, "log to standard error, as a service")
	printVersion := flag.Bool("version", false, "print the version and exit")
	flag.Parse()
	if *printVersion {
		os.Stdout.WriteString("lade-supervisor " + version + "\n")
		return
	}
	trace.Enable(os.Getenv("LADE_TRACE"))
	if err := run(*root, *initPath, *idleExit, *foreground); err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
}

func run(root, initPath string, idleExit time.Duration, foreground bool) error {
	if !filepath.IsAbs(root) { // an upgrade is given the same arguments, in another directory
		return errdefs.Invalidf("--root %s: not an absolute path", root)
	}
	socket, kept := service.Socket() // before Harden closes what it does not know
	refused := server.Harden()
	if err := os.MkdirAll(root, 0o711); err != nil {
		return err
	}
	state := server.TakeState()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	launcher, err := runtime.NewLauncher(runtime.Options{Threads: 4, Logger: log, InitPath: initPath})
	if err != nil {
		return err
	}
	defer launcher.Close()
	groups, err := cgroup.Detect()
	if err != nil {
		return err
	}
	defer groups.Close()
	s, err := server.New(server.Options{
		Root: root, Launcher: launcher, Logger: log, Build: version, IdleExit: idleExit, Cgroup: groups.Open, State: state, Socket: socket,
		Keeper: keeper{}, Kept: kept,
		Foreign: foreign(root, initPath, groups, launcher),
		NewUser: launcher.NewUser,
	})
	if err != nil {
		return err
	}
	go signals(s)
	if !foreground && state == 0 {
		_, _ = unix.Setsid() // EPERM: we lead one already
		if err := service.Detach(filepath.Join(root, "supervisor.log")); err != nil {
			return err
		}
	}
	for _, err := range refused {
		log.Debug("not permitted", "error", err)
	}
	if err := service.Notify("READY=1"); err != nil {
		log.Warn("the service manager does not hear that we are ready", "error", err)
	}
	log.Info("serving", "root", root, "pid", os.Getpid(), "version", version)
	return s.Run()
}

// keeper is the service manager, where there is one.
type keeper struct{}

func (keeper) Keep(name string, fd int) error { return service.Keep(name, fd) }
func (keeper) Drop(name string) error         { return service.Drop(name) }

// signals passes on the signals that concern a supervisor; it never returns.
func signals(s *server.Server) {
	ch := make(chan os.Signal, 16)
	signal.Notify(ch, unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	for sig := range ch {
		switch sig {
		case unix.SIGTERM, unix.SIGINT:
			s.Terminate()
		}
	}
}
