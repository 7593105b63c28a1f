package classic

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/registry"

	"lade/internal/errdefs"
	"lade/internal/reference"
)

// options are the parameters of a build.
type options struct {
	dockerfile string // path in the context, cleaned
	remote     string // context by URL; "": the body
	tags       []string
	quiet      bool
	id         string            // for cancel
	attrs      map[string]string // of BuildKit's front end
	hostNet    bool
	inline     bool // the image carries its cache
	auth       map[string]registry.AuthConfig
}

// read reads them. Errors: Invalid, NotImplemented.
func read(r *http.Request) (o options, err error) {
	q := r.URL.Query()
	o = options{remote: q.Get("remote"), quiet: flag(q, "q"), id: q.Get("buildid"), attrs: map[string]string{}}
	if o.dockerfile = path.Clean("/" + q.Get("dockerfile"))[1:]; o.dockerfile == "" {
		o.dockerfile = "Dockerfile"
	}
	if v := q.Get("version"); v != "" && v != "1" {
		return o, errdefs.NotImplementedf("builder version %s is spoken by /session and /grpc, not by /build", v)
	}
	if len(q["securityopt"]) > 0 {
		return o, errdefs.Invalidf("security options are not supported on linux")
	}
	if flag(q, "squash") {
		return o, errdefs.NotImplementedf("squash is not implemented")
	}
	for _, t := range q["t"] {
		if t == "" {
			continue
		}
		ref, err := reference.ParseTagged(t)
		if err != nil {
			return o, errdefs.Invalidf("invalid reference format: %q: %w", t, err)
		}
		if ref.Digest != "" {
			return o, errdefs.Invalidf("build tag cannot contain a digest: %q", t)
		}
		o.tags = append(o.tags, ref.String())
	}
	for _, f := range []func(url.Values) error{o.front, o.arguments, o.network, o.limits} {
		if err := f(q); err != nil {
			return o, err
		}
	}
	return o, o.registries(r.Header.Get("X-Registry-Config"))
}

// front reads what the front end takes as it is.
func (o *options) front(q url.Values) error {
	o.attrs["filename"] = o.dockerfile
	if t := q.Get("target"); t != "" {
		o.attrs["target"] = t
	}
	if flag(q, "nocache") {
		o.attrs["no-cache"] = ""
	}
	o.attrs["image-resolve-mode"] = "default"
	if flag(q, "pull") {
		o.attrs["image-resolve-mode"] = "pull"
	}
	if p := q.Get("platform"); p != "" {
		if _, err := platforms.Parse(p); err != nil {
			return errdefs.Invalidf("%w", err)
		}
		o.attrs["platform"] = p
	}
	return nil
}

// arguments reads what is JSON.
func (o *options) arguments(q url.Values) error {
	args, labels := map[string]*string{}, map[string]string{}
	if err := decode(q, "buildargs", &args); err != nil {
		return err
	}
	for k, v := range args {
		if v == nil {
			continue
		}
		o.attrs["build-arg:"+k] = *v
		if on, err := strconv.ParseBool(*v); k == "BUILDKIT_INLINE_CACHE" && err == nil {
			o.inline = on
		}
	}
	if err := decode(q, "labels", &labels); err != nil {
		return err
	}
	for k, v := range labels {
		o.attrs["label:"+k] = v
	}
	var from []string
	if err := decode(q, "cachefrom", &from); err != nil {
		return err
	}
	if len(from) > 0 {
		o.attrs["cache-from"] = strings.Join(from, ",")
	}
	return nil
}

// network reads where steps are.
func (o *options) network(q url.Values) error {
	switch m := q.Get("networkmode"); m {
	case "host", "none":
		o.attrs["force-network-mode"] = m
		o.hostNet = m == "host"
	case "", "default", "bridge":
	default:
		return errdefs.Invalidf("network mode %q not supported by buildkit", m)
	}
	var hosts []string
	for _, h := range q["extrahosts"] {
		name, addr, ok := strings.Cut(h, ":")
		if !ok || name == "" || addr == "" {
			return errdefs.Invalidf("bad format for add-host: %q", h)
		}
		hosts = append(hosts, name+"="+addr)
	}
	if len(hosts) > 0 {
		o.attrs["add-hosts"] = strings.Join(hosts, ",")
	}
	return nil
}

// limits reads what bounds the steps.
func (o *options) limits(q url.Values) error {
	if s := q.Get("shmsize"); s != "" && s != "0" {
		if n, err := strconv.ParseInt(s, 10, 64); err != nil || n < 0 {
			return errdefs.Invalidf("invalid shmsize: %q", s)
		}
		o.attrs["shm-size"] = s
	}
	if p := q.Get("cgroupparent"); p != "" {
		o.attrs["cgroup-parent"] = p
	}
	var limits []*container.Ulimit
	if err := decode(q, "ulimits", &limits); err != nil {
		return err
	}
	var list []string
	for _, u := range limits {
		list = append(list, u.String())
	}
	if len(list) > 0 {
		o.attrs["ulimit"] = strings.Join(list, ",")
	}
	for _, name := range []string{"memory", "memswap", "cpushares", "cpuperiod", "cpuquota", "cpusetcpus", "cpusetmems"} {
		if v := q.Get(name); v != "" && v != "0" {
			return errdefs.NotImplementedf("a limit of builds (%s) is not implemented: give the build a parent control group with limits (cgroupparent)", name)
		}
	}
	return nil
}

// registries reads the client's credentials. Like Docker's it is no error if
// they make no sense.
func (o *options) registries(header string) error {
	if header == "" {
		return nil
	}
	d := json.NewDecoder(base64.NewDecoder(base64.URLEncoding, strings.NewReader(header)))
	if d.Decode(&o.auth) != nil {
		o.auth = nil
	}
	return nil
}

func decode(q url.Values, name string, to any) error {
	s := q.Get(name)
	if s == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(s), to); err != nil {
		return errdefs.Invalidf("error reading %s: %w", name, err)
	}
	return nil
}

// flag reads a boolean as Docker does.
func flag(q url.Values, name string) bool {
	switch strings.ToLower(strings.TrimSpace(q.Get(name))) {
	case "", "0", "no", "false", "none":
		return false
	}
	return true
}

// credentials returns those of a registry, whose host is the one that BuildKit
// asks for.
func (o *options) credentials(host string) (user, secret string) {
	names := []string{host, "https://" + host, "http://" + host, fmt.Sprintf("https://%s/v1/", host), fmt.Sprintf("https://%s/v2/", host)}
	if host == "registry-1.docker.io" {
		names = append(names, "https://index.docker.io/v1/", "index.docker.io", "docker.io")
	}
	for _, n := range names {
		a, ok := o.auth[n]
		if !ok {
			continue
		}
		if a.IdentityToken != "" {
			return "", a.IdentityToken
		}
		return a.Username, a.Password
	}
	return "", ""
}
