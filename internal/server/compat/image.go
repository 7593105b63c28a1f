package compat

import (
	"encoding/json"
	"net/url"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/image"
)

// imageInspect is the answer of ImageInspect before 1.52, when what is empty
// was sent all the same.
type imageInspect struct {
	*image.InspectResponse
	Comment       string
	Author        string
	DockerVersion string
	Parent        string
	Config        any // *imageConfig, *imageConfig49

	Container       *string          `json:",omitempty"` // before 1.45
	ContainerConfig *json.RawMessage `json:",omitempty"` // before 1.45: null
	VirtualSize     *int64           `json:",omitempty"` // before 1.44
}

// imageConfig is the configuration of an image before 1.52.
type imageConfig struct {
	User         string
	ExposedPorts map[string]struct{} `json:",omitempty"`
	Env          []string
	Cmd          []string
	Healthcheck  *dockerspec.HealthcheckConfig `json:",omitempty"`
	Volumes      map[string]struct{}
	WorkingDir   string
	Entrypoint   []string
	OnBuild      []string
	Labels       map[string]string
	StopSignal   string   `json:",omitempty"`
	Shell        []string `json:",omitempty"`
}

// imageConfig49 adds fields of a container's configuration, always empty,
// which were sent before 1.50.
type imageConfig49 struct {
	*imageConfig
	Hostname, Domainname                    string
	AttachStdin, AttachStdout, AttachStderr bool
	Tty, OpenStdin, StdinOnce               bool
	Image                                   string
}

// imageSummary is an element of ImageList before 1.44.
type imageSummary struct {
	image.Summary
	VirtualSize int64
}

func imageRows() []Row {
	return []Row{
		query("ImageCreate", 32, drop("platform")),
		query("ImageHistory", 48, drop("platform")),
		query("ImageLoad", 48, drop("platform")),
		query("ImageSave", 48, drop("platform")),
		query("ImageSaveAll", 48, drop("platform")),
		query("ImageRemove", 50, drop("platforms")),

		query("ImageList", 54, drop("identity")),
		query("ImageList", 47, drop("manifests")),
		query("ImageList", 42, drop("shared-size")),
		query("ImageList", 41, referenceFilter),
		each("ImageList", 51, func(s *image.Summary) { s.Containers = -1 }),
		each("ImageList", 48, func(s *image.Summary) { s.Descriptor = nil }),
		each("ImageList", 47, func(s *image.Summary) { s.Manifests = nil }),
		response("ImageList", 44, virtualSizes),
		each("ImageList", 43, unnamed),

		query("ImageInspect", 49, drop("platform")),
		query("ImageInspect", 48, drop("manifests")),
		response("ImageInspect", 53, func(r *image.InspectResponse) any {
			out := *r
			out.Identity = nil
			return &out
		}),
		response("ImageInspect", 52, legacyImage),
		response("ImageInspect", 50, func(r *imageInspect) any {
			if c, ok := r.Config.(*imageConfig); ok {
				r.Config = &imageConfig49{imageConfig: c}
			}
			return r
		}),
		response("ImageInspect", 48, func(r *imageInspect) any {
			r.Descriptor, r.Manifests = nil, nil
			return r
		}),
		response("ImageInspect", 45, func(r *imageInspect) any {
			null := json.RawMessage("null")
			r.Container, r.ContainerConfig = new(string), &null
			return r
		}),
		response("ImageInspect", 44, func(r *imageInspect) any {
			size := r.Size
			r.VirtualSize = &size
			if r.Created == "" {
				r.Created = "0001-01-01T00:00:00Z"
			}
			return r
		}),
	}
}

// referenceFilter turns the parameter of 1.40 and older into the filter that
// replaced it.
func referenceFilter(q url.Values) {
	name := q.Get("filter")
	if name == "" {
		return
	}
	sets := map[string]any{}
	if f := q.Get("filters"); f != "" && json.Unmarshal([]byte(f), &sets) != nil {
		return // the handler says what is wrong with it
	}
	sets["reference"] = map[string]bool{name: true}
	if b, err := json.Marshal(sets); err == nil {
		q.Set("filters", string(listed(b)))
	}
}

// listed returns filters in the newest form, lists of values, whichever of the
// two forms each key has.
func listed(b []byte) []byte {
	var raw map[string]json.RawMessage
	if json.Unmarshal(b, &raw) != nil {
		return b
	}
	out := make(map[string][]string, len(raw))
	for k, v := range raw {
		var list []string
		if json.Unmarshal(v, &list) == nil {
			out[k] = list
			continue
		}
		var set map[string]bool
		if json.Unmarshal(v, &set) != nil {
			return b
		}
		for value, on := range set {
			if on {
				out[k] = append(out[k], value)
			}
		}
	}
	if r, err := json.Marshal(out); err == nil {
		return r
	}
	return b
}

func unnamed(s *imageSummary) {
	if len(s.RepoTags) == 0 && len(s.RepoDigests) == 0 {
		s.RepoTags, s.RepoDigests = []string{"<none>:<none>"}, []string{"<none>@<none>"}
	}
}

func virtualSizes(list []image.Summary) any {
	out := make([]imageSummary, len(list))
	for i, s := range list {
		out[i] = imageSummary{s, s.Size}
	}
	return out
}

func legacyImage(r *image.InspectResponse) any {
	old := *r
	out := &imageInspect{InspectResponse: &old, Comment: r.Comment, Author: r.Author}
	if c := r.Config; c != nil {
		out.Config = &imageConfig{
			User: c.User, ExposedPorts: c.ExposedPorts, Env: c.Env, Cmd: c.Cmd, Healthcheck: c.Healthcheck,
			Volumes: c.Volumes, WorkingDir: c.WorkingDir, Entrypoint: c.Entrypoint,
			OnBuild: c.OnBuild, Labels: c.Labels, StopSignal: c.StopSignal, Shell: c.Shell,
		}
	}
	return out
}
