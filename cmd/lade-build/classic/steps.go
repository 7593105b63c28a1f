package classic

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

// step is one instruction of a Dockerfile.
type step struct {
	text  string
	stage string // as BuildKit calls the stage, "" for the only one
	// back counts the steps of the stage that have a vertex and come after this
	// one; -1: it has none itself.
	back   int
	copies bool // files of the context
}

// plan lists the instructions of the stages up to a target.
func plan(stages []instructions.Stage, args []instructions.ArgCommand, target string) []step {
	var out []step
	for i := range args {
		out = append(out, step{text: args[i].String(), back: -1})
	}
	for i, st := range stages {
		label := ""
		if len(stages) > 1 {
			if label = strings.ToLower(st.Name); label == "" {
				label = fmt.Sprintf("stage-%d", i)
			}
		}
		first := len(out)
		from := step{text: st.SourceCode, stage: label, back: -1}
		if !scratch(stages[:i], st.BaseName) {
			from.back = 0
		}
		out = append(out, from)
		for _, c := range st.Commands {
			s := step{text: fmt.Sprint(c), stage: label, back: -1}
			switch c.(type) {
			case *instructions.AddCommand, *instructions.CopyCommand:
				s.back, s.copies = 0, true
			case *instructions.RunCommand, *instructions.WorkdirCommand:
				s.back = 0
			}
			out = append(out, s)
		}
		n := 0
		for k := len(out) - 1; k >= first; k-- {
			if out[k].back >= 0 {
				out[k].back = n
				n++
			}
		}
		if target != "" && (strings.EqualFold(st.Name, target) || strconv.Itoa(i) == target) {
			break
		}
	}
	return out
}

// scratch reports whether a stage begins without an image: with nothing, or with
// an earlier stage.
func scratch(earlier []instructions.Stage, base string) bool {
	if base == "scratch" {
		return true
	}
	for i, e := range earlier {
		if e.Name != "" && strings.EqualFold(e.Name, base) || strconv.Itoa(i) == base {
			return true
		}
	}
	return false
}

// vertex is what is known of a step's part of the graph.
type vertex struct {
	started, cached, ended bool
	failed                 string
	logs                   []byte // not shown yet
}

// place is where in a Dockerfile a vertex belongs.
type place struct {
	stage string
	back  int
}

// steps shows the progress of a build in the order of its Dockerfile.
type steps struct {
	plan  []step
	say   func(string)
	next  int  // index in plan of what is shown now
	begun bool // the line of next was shown

	single bool // there is one stage

	places   map[string]place // by digest
	vertices map[place]*vertex
}

func newSteps(p []step, say func(string)) *steps {
	several := slices.ContainsFunc(p, func(s step) bool { return s.stage != "" })
	return &steps{plan: p, say: say, single: !several, places: map[string]place{}, vertices: map[place]*vertex{}}
}

// numbered is the name of a vertex that stands for an instruction.
var numbered = regexp.MustCompile(`^\[(?:([^\]]+?) +)? *(\d+)/(\d+)\] `)

// update takes in what the solver tells, and shows what can be shown of it.
func (s *steps) update(m *controlapi.StatusResponse) {
	for _, v := range m.Vertexes {
		p, ok := s.places[v.Digest]
		if !ok {
			match := numbered.FindStringSubmatch(v.Name)
			if match == nil {
				continue
			}
			n, _ := strconv.Atoi(match[2])
			total, _ := strconv.Atoi(match[3])
			p = place{match[1], total - n}
			if s.single { // BuildKit names even an only stage, when it has mounts
				p.stage = ""
			}
			s.places[v.Digest] = p
		}
		x := s.vertices[p]
		if x == nil {
			x = &vertex{}
			s.vertices[p] = x
		}
		x.started = x.started || v.Started != nil
		x.cached = x.cached || v.Cached
		x.ended = x.ended || v.Completed != nil
		if v.Error != "" {
			x.failed = v.Error
		}
	}
	for _, l := range m.Logs {
		if p, ok := s.places[l.Vertex]; ok {
			s.vertices[p].logs = append(s.vertices[p].logs, l.Msg...)
		}
	}
	for s.advance(false) {
	}
}

// finish shows what is left; after a failure no further than that.
func (s *steps) finish(failed bool) {
	for s.advance(true) {
		if !failed {
			continue
		}
		if s.next == len(s.plan) {
			return
		}
		if x := s.vertex(); s.plan[s.next].back >= 0 && (x == nil || !x.started && !x.ended && !x.cached) {
			return
		}
	}
}

func (s *steps) vertex() *vertex {
	st := s.plan[s.next]
	return s.vertices[place{st.stage, st.back}]
}

// advance shows more of the current step and reports whether the next one's turn
// has come. With over nothing more will be heard.
func (s *steps) advance(over bool) bool {
	if s.next == len(s.plan) {
		return false
	}
	st, x := s.plan[s.next], s.vertex()
	if st.back >= 0 && x == nil && !over {
		return false
	}
	if !s.begun {
		if st.back >= 0 && x != nil && !over && !x.started && !x.cached {
			return false
		}
		s.begun = true
		s.say(fmt.Sprintf("Step %d/%d : %s\n", s.next+1, len(s.plan), st.text))
	}
	if st.back >= 0 && x != nil {
		if len(x.logs) > 0 {
			s.say(string(x.logs))
			x.logs = nil
		}
		if !x.ended && !over {
			return false
		}
		if x.cached && !strings.HasPrefix(strings.ToUpper(st.text), "FROM ") {
			s.say(" ---> Using cache\n")
		}
		if x.failed != "" {
			return false
		}
	}
	s.next, s.begun = s.next+1, false
	return true
}
