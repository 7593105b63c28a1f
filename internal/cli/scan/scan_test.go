package scan

import (
	"encoding/json"
	"reflect"
	"testing"
)

// value reads whatever comes as encoding/json does, numbers as whole ones.
func value(s *Scanner) any {
	switch s.peek() {
	case '{':
		m := map[string]any{}
		s.Object(func(name []byte) {
			key := string(name)
			m[key] = value(s)
		})
		return m
	case '[':
		l := []any{}
		s.Array(func() { l = append(l, value(s)) })
		return l
	case '"':
		return s.String()
	case 'n':
		s.Skip()
		return nil
	case 't', 'f':
		yes := s.peek() == 't'
		s.Skip()
		return yes
	}
	return float64(s.Int())
}

func TestScanner(t *testing.T) {
	for _, text := range []string{
		`{}`, `[]`, ` [ ] `, `null`, `{"a":1,"b":[-2,{"c":null}],"d":"x"}`, "\t{ \"a\" :\n\"b\" , \"c\" : [ 1 , 2 ] }\r\n",
		`"\"\\\/\n\u00fc\ud83d\ude00"`, `"ü€"`, `["","a\"]}"]`, `{"a\"b":"{"}`, `[true,false,null]`,
	} {
		s := New([]byte(text))
		got := value(s)
		var want any
		if err := json.Unmarshal([]byte(text), &want); err != nil {
			t.Fatal(err)
		}
		if err := s.End(); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %v %v", text, got, err)
		}
		skip := New([]byte(text))
		skip.Skip()
		if err := skip.End(); err != nil {
			t.Errorf("skip %s: %v", text, err)
		}
	}
	for text, want := range map[string]string{
		``:            "malformed JSON at byte 0: a value is needed",
		`[1`:          "malformed JSON at byte 2: a comma or ] is needed",
		`[1,]`:        "malformed JSON at byte 3: a whole number is needed",
		`{"a" 1}`:     "malformed JSON at byte 5: a colon is needed",
		`{a:1}`:       "malformed JSON at byte 1: a string is needed",
		`"abc`:        "malformed JSON at byte 0: the end of a string is needed",
		"\"a\nb\"":    "malformed JSON at byte 2: no control character in a string is needed",
		`"\q"`:        "malformed JSON at byte 4: a string is needed",
		`[1.5]`:       "malformed JSON at byte 1: a whole number is needed",
		`[] x`:        "malformed JSON at byte 3: nothing more is needed",
		`{"a":1}{}`:   "malformed JSON at byte 7: nothing more is needed",
		`{"a":[1,2}}`: "malformed JSON at byte 9: a comma or ] is needed",
	} {
		s := New([]byte(text))
		if s.peek() == 0 {
			s.Skip()
		} else {
			value(s)
		}
		if err := s.End(); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// FuzzScanner: what encoding/json takes is passed over as a whole, and what it
// understands is understood the same; nothing panics or goes on for ever.
func FuzzScanner(f *testing.F) {
	for _, text := range []string{`{"a":[1,"\u00e4",null,true],"b":{}}`, `[[[[`, `"\`, `{"a"`, `[1,2`, `-`, `nul`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		skip := New(text)
		skip.Skip()
		passed := skip.End()
		if json.Valid(text) && passed != nil {
			t.Errorf("skip %q: %v", text, passed)
		}
		s := New(text)
		got := value(s)
		if s.End() != nil {
			return
		}
		var want any
		if err := json.Unmarshal(text, &want); err == nil && !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	})
}
