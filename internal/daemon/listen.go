package daemon

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/tlsfile"
)

const (
	defaultSocket = "/var/run/lade.sock"
	dockerSocket  = "/var/run/docker.sock"
	// answer is how long a daemon behind an existing socket has to accept.
	answer = time.Second
)

// Listen opens every listener that the configuration names; without any, the
// default socket, and Docker's too where no Docker lives. The caller closes
// them; a unix socket is removed then. Errors: Conflict when another daemon
// answers on an address, Invalid for what cannot be listened on as said.
func Listen(c *Config, log *slog.Logger) ([]net.Listener, error) {
	docker := ""
	if os.Getuid() == 0 && c.DataRoot == defaultDataRoot && c.ExecRoot == defaultExecRoot {
		docker = dockerSocket
	}
	return listen(c, log, defaultSocket, docker)
}

// listen is Listen with the default sockets; docker may be "".
func listen(c *Config, log *slog.Logger, own, docker string) (all []net.Listener, err error) {
	defer func() {
		if err != nil {
			closeAll(all)
			all = nil
		}
	}()
	hosts := c.Hosts
	if len(hosts) == 0 {
		hosts = []string{"unix://" + own}
	} else {
		docker = ""
	}
	for _, h := range hosts {
		h, t, err := cutTerms(h)
		if err != nil {
			return all, err
		}
		if t.group == "" {
			t.group = c.Group
		}
		scheme, addr, _ := strings.Cut(h, "://")
		var ls []net.Listener
		switch scheme {
		case "unix":
			var l net.Listener
			l, err = listenUnix(addr, t, log)
			ls = []net.Listener{l}
		case "tcp":
			var l net.Listener
			l, err = listenTCP(addr, &c.API, log)
			ls = []net.Listener{l}
		case "fd":
			ls, err = inherited(addr, os.Getenv)
		}
		if err != nil {
			return all, err
		}
		for _, l := range ls {
			if t.readOnly {
				l = readOnlyListener{l}
			}
			all = append(all, l)
		}
	}
	if docker != "" {
		switch l, err := listenUnix(docker, terms{group: c.Group, perm: socketMode}, log); {
		case err == nil:
			all = append(all, l)
		case errdefs.KindOf(err) == errdefs.Conflict:
			log.Info("another engine answers on Docker's socket", "path", docker)
		default:
			log.Warn("cannot serve Docker's socket", "path", docker, "error", err)
		}
	}
	return all, nil
}

func closeAll(list []net.Listener) {
	for _, l := range list {
		if l != nil {
			l.Close() // an error changes nothing: the daemon ends
		}
	}
}

// listenUnix listens on a socket that, unless the terms say otherwise, only its
// owner and a group may connect to. The socket gets its place by a rename, so it
// never exists with other rights, and replaces a stale one at once.
func listenUnix(path string, t terms, log *slog.Logger) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	switch fi, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case fi.Mode().Type() == fs.ModeSymlink:
		return nil, errdefs.Invalidf("can't create unix socket %s: is a symbolic link", path)
	case fi.IsDir(), fi.Mode().Type() != fs.ModeSocket:
		return nil, errdefs.Invalidf("can't create unix socket %s: is a file or directory", path)
	default:
		if c, err := net.DialTimeout("unix", path, answer); err == nil {
			lives := served(c)
			c.Close()
			if lives {
				return nil, errdefs.Conflictf("cannot listen on unix://%s: another daemon answers there", path)
			}
		} else if !errors.Is(err, unix.ECONNREFUSED) {
			return nil, errdefs.Conflictf("cannot listen on unix://%s: %w", path, err)
		}
	}
	gid, err := socketGroup(t.group, log)
	if err != nil {
		return nil, err
	}
	// Short: the path of a socket has at most 107 bytes.
	temporary := filepath.Join(filepath.Dir(path), "."+strconv.Itoa(os.Getpid())+".sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: temporary, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("cannot listen on unix://%s: %w", path, err)
	}
	l.SetUnlinkOnClose(false)
	fail := func(err error) (net.Listener, error) {
		return nil, errors.Join(err, l.Close(), os.Remove(temporary))
	}
	if err := os.Chmod(temporary, t.perm); err != nil {
		return fail(err)
	}
	if gid != os.Getgid() {
		if err := os.Chown(temporary, -1, gid); err != nil {
			return fail(fmt.Errorf("cannot give unix://%s to group %d: %w", path, gid, err))
		}
	}
	if err := os.Rename(temporary, path); err != nil {
		return fail(err)
	}
	fi, err := os.Lstat(path)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &unixListener{UnixListener: l, path: path, made: fi}, nil
}

// served reports whether the process that listens lives. One that was killed
// while it started a program has left its sockets to the child, until that calls
// execve(2).
func served(c net.Conn) bool {
	cred, err := peer(c)
	return err != nil || cred.Pid == 0 || !errors.Is(unix.Kill(int(cred.Pid), 0), unix.ESRCH)
}

// unixListener removes its socket when it is closed, unless another daemon has
// put its own there.
type unixListener struct {
	*net.UnixListener
	path string
	made os.FileInfo
}

// Addr names the socket by where it is.
func (l *unixListener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

// Close stops listening.
func (l *unixListener) Close() error {
	if fi, err := os.Lstat(l.path); err == nil && os.SameFile(fi, l.made) {
		os.Remove(l.path) // a stale socket is recognised at the next start
	}
	return l.UnixListener.Close()
}

// socketGroup returns the group that may connect. One that was named must
// exist; otherwise docker or lade is taken, or none but the owner's.
func socketGroup(name string, log *slog.Logger) (int, error) {
	if name != "" {
		if gid, err := strconv.Atoi(name); err == nil {
			return gid, nil
		}
		g, err := user.LookupGroup(name)
		if err != nil {
			return 0, errdefs.Invalidf("group %s not found", name)
		}
		return strconv.Atoi(g.Gid)
	}
	for _, n := range []string{"docker", "lade"} {
		if g, err := user.LookupGroup(n); err == nil {
			return strconv.Atoi(g.Gid)
		}
	}
	log.Debug("no group docker or lade: only the owner may use the socket")
	return os.Getgid(), nil
}

// listenTCP listens on a TCP address, with TLS if so configured. Without, an
// address that others can reach must be confirmed by --tls=false: whoever can
// connect is root here.
func listenTCP(addr string, a *API, log *slog.Logger) (net.Listener, error) {
	var config *tls.Config
	if a.TLS {
		var err error
		if config, err = tlsConfig(a); err != nil {
			return nil, err
		}
	} else {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return nil, errdefs.Invalidf("invalid bind address (tcp://%s): %w", addr, err)
		}
		ip := net.ParseIP(host)
		if host != "localhost" && (ip == nil || !ip.IsLoopback()) && !a.TLSChosen {
			return nil, errdefs.Invalidf("cannot listen on tcp://%s without TLS: whoever can connect is root on this host; use --tlsverify, or --tls=false to insist", addr)
		}
		log.Warn("listening without TLS: whoever can connect is root on this host", "address", "tcp://"+addr)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on tcp://%s: %w", addr, err)
	}
	if config != nil {
		l = tls.NewListener(l, config)
	}
	return l, nil
}

func tlsConfig(a *API) (*tls.Config, error) {
	dir := os.Getenv("DOCKER_CERT_PATH")
	if dir == "" {
		dir = filepath.Join(os.Getenv("HOME"), ".docker")
	}
	name := func(given, usual string) string {
		if given != "" {
			return given
		}
		return filepath.Join(dir, usual)
	}
	cert, err := tls.LoadX509KeyPair(name(a.TLSCert, "cert.pem"), name(a.TLSKey, "key.pem"))
	if err != nil {
		return nil, errdefs.Invalidf("could not load X509 key pair: %w. Make sure the key is not encrypted", err)
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}}
	if !a.TLSVerify {
		return c, nil
	}
	if c.ClientCAs, err = tlsfile.Authorities(name(a.TLSCACert, "ca.pem")); err != nil {
		return nil, err
	}
	c.ClientAuth = tls.RequireAndVerifyClientCert
	return c, nil
}

// firstFD is where the descriptors of a service manager begin, sd_listen_fds(3).
const firstFD = 3

// inherited returns the listeners that a service manager opened for us: all of
// them, or those of one name or number.
func inherited(which string, getenv func(string) string) ([]net.Listener, error) {
	n, err := strconv.Atoi(getenv("LISTEN_FDS"))
	if pid := getenv("LISTEN_PID"); err != nil || n <= 0 || pid != strconv.Itoa(os.Getpid()) {
		return nil, errdefs.Invalidf("no sockets found via socket activation: make sure the service was started by systemd")
	}
	names := strings.Split(getenv("LISTEN_FDNAMES"), ":")
	var all []net.Listener
	for i := range n {
		name := ""
		if i < len(names) {
			name = names[i]
		}
		if !slices.Contains([]string{"", "*", name, strconv.Itoa(firstFD + i)}, which) {
			continue
		}
		unix.CloseOnExec(firstFD + i)
		f := os.NewFile(uintptr(firstFD+i), "LISTEN_FD_"+strconv.Itoa(firstFD+i))
		l, err := net.FileListener(f) // a duplicate
		if err := errors.Join(err, f.Close()); err != nil {
			closeAll(all)
			return nil, errdefs.Invalidf("socket %d of the service manager: %w", firstFD+i, err)
		}
		all = append(all, l)
	}
	if len(all) == 0 {
		return nil, errdefs.Invalidf("failed to find systemd activated socket with name %q", which)
	}
	return all, nil
}
