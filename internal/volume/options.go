package volume

import (
	"context"
	"maps"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/mount"
)

// resolveTimeout bounds the look-up of a file server's name.
const resolveTimeout = 10 * time.Second

// source is where a volume's files are, as its options say.
type source struct {
	kind, device string // both empty: in the volume's own directory
	data         string // mount options, as given
	uid, gid     int    // owner of a new volume's own directory; -1: root
	size         int64  // bytes that it may hold; 0: no limit
}

// external reports whether the files are elsewhere and must be mounted.
func (s source) external() bool { return s.kind != "" }

// bind reports whether they are a directory of the host.
func (s source) bind() bool {
	return s.external() && mount.Parse(strings.Split(s.data, ",")).Bind
}

// parseOptions reads the options type, device and o, which are those of
// mount(8); o alone may name the owner of
// the volume: uid=, gid=; and size, which limits it. Errors:
// Invalid, in Docker's words.
func parseOptions(options map[string]string) (source, error) {
	s := source{kind: options["type"], device: options["device"], data: options["o"], uid: -1, gid: -1}
	for _, k := range slices.Sorted(maps.Keys(options)) {
		switch k {
		case "type", "device", "o":
		case "size":
			n, err := units.RAMInBytes(options[k])
			if err != nil || n <= 0 {
				return s, errdefs.Invalidf("invalid size: %q", options[k])
			}
			s.size = n
		default:
			return s, errdefs.Invalidf("invalid option: %q", k)
		}
	}
	if s.kind == "" && s.device == "" {
		return s, s.owner()
	}
	for k, v := range map[string]string{"type": s.kind, "device": s.device} {
		if v == "" {
			return s, errdefs.Invalidf("missing required option: %q", k)
		}
	}
	if s.size > 0 {
		return s, errdefs.Invalidf("invalid option: %q is for volumes without a device", "size")
	}
	if s.bind() {
		if !filepath.IsAbs(s.device) {
			return s, errdefs.Invalidf("invalid device %q: the source of a bind must be an absolute path", s.device)
		}
		if o := mount.Parse(strings.Split(s.data, ",")); len(o.Super) > 0 {
			return s, errdefs.Invalidf("invalid option %q: a bind has no file system of its own to set it for", o.Super[0])
		}
	}
	return s, nil
}

// owner reads an "o" that stands alone.
func (s *source) owner() error {
	if s.data == "" {
		return nil
	}
	for o := range strings.SplitSeq(s.data, ",") {
		k, v, _ := strings.Cut(o, "=")
		if k != "uid" && k != "gid" {
			return errdefs.Invalidf("missing required option: %q", "device")
		}
		n, err := strconv.ParseUint(v, 10, 31)
		if err != nil {
			return errdefs.Invalidf("invalid option %q: want a number", o)
		}
		if k == "uid" {
			s.uid = int(n)
		} else {
			s.gid = int(n)
		}
	}
	s.data = ""
	return nil
}

// open makes a detached mount of an external source; the caller closes it.
// Errors: those of the kernel.
func (s source) open(ctx context.Context) (fd int, err error) {
	o := mount.Parse(strings.Split(s.data, ","))
	if o.Bind {
		from, err := unix.Open(s.device, unix.O_PATH|unix.O_CLOEXEC, 0)
		if err != nil {
			return -1, err
		}
		defer unix.Close(from)
		return mount.Clone(from, o)
	}
	if o.Super, err = s.withAddress(ctx, o); err != nil {
		return -1, err
	}
	return mount.New(s.kind, s.device, o)
}

// withAddress gives the kernel the address of a file server, whose name it
// cannot look up.
func (s source) withAddress(ctx context.Context, o *mount.Options) ([]string, error) {
	key, host := "addr", ""
	switch s.kind {
	case "nfs", "nfs4":
		host, _, _ = strings.Cut(s.device, ":/")
		host = strings.Trim(host, "[]")
	case "cifs", "smb3":
		u, err := url.Parse(s.device)
		if err != nil {
			return nil, errdefs.Invalidf("error parsing mount device url: %w", err)
		}
		key, host = "ip", u.Hostname()
	default:
		return o.Super, nil
	}
	out := slices.Clone(o.Super)
	at := slices.IndexFunc(out, func(a string) bool {
		k, _, _ := strings.Cut(a, "=")
		return k == "addr" || k == "ip"
	})
	if at >= 0 {
		key, host, _ = strings.Cut(out[at], "=")
		out = slices.Delete(out, at, at+1)
	}
	if host == "" {
		return nil, errdefs.Invalidf("no address of the server in the options of the volume (addr=)")
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, errdefs.Internalf("error resolving passed in network volume address: %w", err)
	}
	return append(out, key+"="+found[0].Unmap().String()), nil
}
