package swagger

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// schema is the part of JSON schema that the files use.
type schema struct {
	Ref        string             `yaml:"$ref"`
	Type       kinds              `yaml:"type"`
	Nullable   bool               `yaml:"x-nullable"`
	Enum       []any              `yaml:"enum"`
	Required   []string           `yaml:"required"`
	Properties map[string]*schema `yaml:"properties"`
	Additional yaml.Node          `yaml:"additionalProperties"`
	Items      *schema            `yaml:"items"`
	AllOf      []*schema          `yaml:"allOf"`
}

// kinds is a type, or several.
type kinds []string

// UnmarshalYAML reads one word or a list.
func (k *kinds) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		*k = kinds{n.Value}
		return nil
	}
	return n.Decode((*[]string)(k))
}

// Check compares an answer with the contract and returns what is wrong, by the
// place in the answer. A body that the contract does not describe is not
// looked at.
func (s *Spec) Check(method, path string, status int, body []byte) []string {
	o, ok := s.Find(method, path)
	if !ok {
		return nil // an operation that the version does not have: Docker serves all in every version
	}
	as := s.answer(o, status)
	if as == nil {
		return nil
	}
	var v any
	if err := json.Unmarshal(body, &v); err != nil {
		return []string{fmt.Sprintf("%s %s: %v", method, path, err)}
	}
	views := []pair{{as, s}}
	for _, later := range s.later {
		if o, ok := later.Find(method, path); ok {
			views = append(views, pair{later.answer(o, status), later})
		}
	}
	c := &checker{of: s, operation: o.ID}
	c.value("", v, views)
	return c.wrong
}

// pair is a schema with the file that its references are for.
type pair struct {
	*schema
	in *Spec
}

// resolve follows references and joins what allOf names.
func (p pair) resolve() pair {
	if p.schema == nil {
		return p
	}
	for p.Ref != "" {
		name := p.Ref[strings.LastIndexByte(p.Ref, '/')+1:]
		nullable := p.Nullable
		p.schema = p.in.Definitions[name]
		if p.schema == nil {
			return p
		}
		if nullable {
			c := *p.schema
			c.Nullable = true
			p.schema = &c
		}
	}
	if len(p.AllOf) == 0 {
		return p
	}
	all := *p.schema
	all.Properties = maps.Clone(p.Properties)
	if all.Properties == nil {
		all.Properties = map[string]*schema{}
	}
	for _, part := range p.AllOf {
		r := pair{part, p.in}.resolve()
		if r.schema == nil {
			continue
		}
		maps.Copy(all.Properties, r.Properties)
		all.Required = append(slices.Clone(all.Required), r.Required...)
		all.Nullable = all.Nullable || r.Nullable
		if len(all.Type) == 0 {
			all.Type = r.Type
		}
		if all.Additional.IsZero() {
			all.Additional = r.Additional
		}
	}
	all.AllOf = nil
	return pair{&all, p.in}
}

// property returns what the schema says of a field.
func (p pair) property(name string) pair {
	if p.schema == nil {
		return pair{nil, p.in}
	}
	return pair{p.Properties[name], p.in}
}

// rest returns what the schema says of fields that it does not name.
func (p pair) rest() (s pair, open bool) {
	if p.schema == nil || p.Additional.IsZero() {
		return pair{nil, p.in}, false
	}
	if p.Additional.Kind == yaml.ScalarNode {
		return pair{nil, p.in}, p.Additional.Value == "true"
	}
	var sub schema
	if p.Additional.Decode(&sub) != nil {
		return pair{nil, p.in}, true
	}
	return pair{&sub, p.in}, true
}

type checker struct {
	of        *Spec
	operation string
	wrong     []string
}

func (c *checker) say(at, format string, args ...any) {
	if lapse(c.of.Minor, c.operation, at) {
		return
	}
	c.wrong = append(c.wrong, fmt.Sprintf("v1.%d %s%s: ", c.of.Minor, c.operation, at)+fmt.Sprintf(format, args...))
}

// resolved follows the references of what the versions say of a value, and adds
// what the last one says of a definition of the same name. Versions that say
// nothing are left out.
func resolved(views []pair) (out []pair) {
	for _, p := range views {
		if p.schema == nil {
			continue
		}
		name := p.Ref[strings.LastIndexByte(p.Ref, '/')+1:]
		if r := p.resolve(); r.schema != nil {
			out = append(out, r)
		}
		if last := p.in.last(); name != "" && last != p.in && last.Definitions[name] != nil {
			out = append(out, pair{last.Definitions[name], last}.resolve())
		}
	}
	return out
}

// value checks one value: of the versions that say something of it, one must
// allow it. What the first says counts alone where it is right.
func (c *checker) value(at string, v any, views []pair) {
	views = resolved(views)
	if len(views) == 0 {
		return
	}
	var fit []pair
	for _, p := range views {
		if p.allows(v) {
			fit = append(fit, p)
		}
	}
	if len(fit) == 0 {
		text, _ := json.Marshal(v) // was decoded
		c.say(at, "%.80s in place of %v", text, views[0].describe())
		return
	}
	switch v := v.(type) {
	case map[string]any:
		c.object(at, v, fit)
	case []any:
		var items []pair
		for _, p := range fit {
			items = append(items, pair{p.Items, p.in})
		}
		for _, e := range v {
			c.value(at+"[]", e, items)
		}
	}
}

// allows reports whether a value is of the schema's type, and one of its words.
//
// The files do not say of lists and maps that they may be null, and Docker's
// are, for "none". Of others they do.
func (p pair) allows(v any) bool {
	if len(p.Type) == 0 && len(p.Properties) == 0 {
		return true // anything
	}
	switch v := v.(type) {
	case nil:
		return p.Nullable || p.is("array") || p.is("object") || len(p.Type) == 0
	case map[string]any:
		return p.is("object") || len(p.Type) == 0
	case []any:
		return p.is("array")
	case string:
		return p.is("string") && (len(p.Enum) == 0 || slices.Contains(p.Enum, any(v)))
	case float64:
		return p.is("number") || p.is("integer") && v == math.Trunc(v)
	case bool:
		return p.is("boolean")
	}
	return false
}

func (p pair) is(kind string) bool { return slices.Contains(p.Type, kind) }

func (p pair) describe() string {
	if len(p.Enum) > 0 {
		return fmt.Sprintf("one of %v", p.Enum)
	}
	return strings.Join(p.Type, " or ")
}

func (c *checker) object(at string, v map[string]any, views []pair) {
	for _, name := range views[0].Required {
		if _, ok := v[name]; !ok {
			c.say(at+"."+name, "required and missing")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v)) {
		var named, others []pair
		open, closed := false, false
		for _, p := range views {
			if q := p.property(name); q.schema != nil {
				named = append(named, q)
			}
			rest, ok := p.rest()
			open, closed = open || ok, closed || len(p.Properties) > 0
			others = append(others, rest)
		}
		switch {
		case len(named) > 0:
			c.value(at+"."+name, v[name], named)
		case open:
			c.value(at+"{}", v[name], others)
		case closed:
			c.say(at+"."+name, "a field that no version has")
		}
	}
}
