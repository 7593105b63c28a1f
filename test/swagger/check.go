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
	c := &checker{old: s, operation: o.ID}
	var also *schema
	if n, ok := s.latest.Find(method, path); ok {
		also = s.latest.answer(n, status)
	}
	c.value("", v, pair{as, s}, pair{also, s.latest})
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
	old       *Spec
	operation string
	wrong     []string
}

func (c *checker) say(at, format string, args ...any) {
	if lapse(c.old.Minor, c.operation, at) {
		return
	}
	c.wrong = append(c.wrong, fmt.Sprintf("v1.%d %s%s: ", c.old.Minor, c.operation, at)+fmt.Sprintf(format, args...))
}

// value checks one value by the version's schema, and where that has none by
// the newest.
func (c *checker) value(at string, v any, as, also pair) {
	as, also = as.resolve(), also.resolve()
	if as.schema == nil {
		as = also
	}
	if as.schema == nil || len(as.Type) == 0 && len(as.Properties) == 0 {
		return
	}
	if v == nil {
		// The files do not say of lists and maps that they may be null, and
		// Docker's are, for "none". Of others they do.
		if !as.Nullable && !(also.schema != nil && also.Nullable) && !as.is("array") && !as.is("object") && !as.is("") {
			c.say(at, "null")
		}
		return
	}
	switch v := v.(type) {
	case map[string]any:
		if !as.is("object") && len(as.Properties) == 0 {
			c.say(at, "an object in place of %v", as.Type)
			return
		}
		c.object(at, v, as, also)
	case []any:
		if !as.is("array") {
			c.say(at, "a list in place of %v", as.Type)
			return
		}
		items := pair{nil, also.in}
		if also.schema != nil {
			items.schema = also.Items
		}
		for _, e := range v {
			c.value(at+"[]", e, pair{as.Items, as.in}, items)
		}
	case string:
		if !as.is("string") {
			c.say(at, "the text %q in place of %v", v, as.Type)
			return
		}
		if len(as.Enum) > 0 && !slices.Contains(as.Enum, any(v)) && !(also.schema != nil && slices.Contains(also.Enum, any(v))) {
			c.say(at, "%q is none of %v", v, as.Enum)
		}
	case float64:
		if as.is("integer") && v != math.Trunc(v) {
			c.say(at, "%v in place of an integer", v)
		}
		if !as.is("integer") && !as.is("number") {
			c.say(at, "the number %v in place of %v", v, as.Type)
		}
	case bool:
		if !as.is("boolean") {
			c.say(at, "%v in place of %v", v, as.Type)
		}
	}
}

// is reports whether a value may be of that type; "" is: none is named.
func (p pair) is(kind string) bool {
	if kind == "" {
		return len(p.Type) == 0
	}
	return slices.Contains(p.Type, kind)
}

func (c *checker) object(at string, v map[string]any, as, also pair) {
	for _, name := range as.Required {
		if _, ok := v[name]; !ok {
			c.say(at+"."+name, "required and missing")
		}
	}
	rest, open := as.rest()
	alsoRest, alsoOpen := also.rest()
	for _, name := range slices.Sorted(maps.Keys(v)) {
		p, q := as.property(name), also.property(name)
		switch {
		case p.schema != nil || q.schema != nil:
			c.value(at+"."+name, v[name], p, q)
		case open:
			c.value(at+"{}", v[name], rest, alsoRest)
		case alsoOpen:
			c.value(at+"{}", v[name], alsoRest, alsoRest)
		case len(as.Properties) > 0:
			c.say(at+"."+name, "a field that no version has")
		}
	}
}
