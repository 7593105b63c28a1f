package cgroup

import specs "github.com/opencontainers/runtime-spec/specs-go"

// Setting is a file of a control group and what a limit writes to it, for
// programs that create groups themselves.
type Setting struct {
	File, Value string
	Unified     bool // of the unified hierarchy
}

// Settings translates r, devices aside, to what Create would write. Errors: as
// Create.
func (h *Host) Settings(r *specs.LinuxResources) ([]Setting, error) {
	p, err := h.plan(r)
	if err != nil {
		return nil, err
	}
	var out []Setting
	for _, s := range p.settings {
		file, value := s.file, s.value
		// The root of a hierarchy has no limits in version 2, and all in version 1.
		if !s.m.v2 && !s.m.exists(file) {
			if s.alt == "" && s.optional {
				continue
			}
			if s.alt != "" {
				file = s.alt
				if s.altValue != "" {
					value = s.altValue
				}
			}
		}
		out = append(out, Setting{file, value, s.m.v2})
	}
	return out, nil
}
