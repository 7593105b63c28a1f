package dns

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

func addrs(s ...string) (all []netip.Addr) {
	for _, a := range s {
		all = append(all, netip.MustParseAddr(a))
	}
	return all
}

// view is a container on two networks: front before back.
func view() *View {
	front, back := &Network{}, &Network{}
	front.Set("Front", []Host{
		{Names: []string{"Web", "0123456789ab", "pool", "web"}, Addresses: addrs("10.1.0.2", "fd00:1::2")},
		{Names: []string{"two", "pool"}, Addresses: addrs("10.1.0.3")},
		{Names: []string{"three", "pool"}, Addresses: addrs("10.1.0.4")},
		{Names: []string{"six"}, Addresses: addrs("fd00:1::6")},
	})
	back.Set("back", []Host{
		{Names: []string{"web"}, Addresses: addrs("10.2.0.2")},
		{Names: []string{"db.example"}, Addresses: addrs("10.2.0.3")},
	})
	return &View{Members: []Member{{Network: front, Links: map[string]string{"gone": "nobody"}}, {Network: back, Links: map[string]string{"database": "DB.example"}}}}
}

func pack(t testing.TB, name string, typ dnsmessage.Type, change func(*dnsmessage.Message)) []byte {
	t.Helper()
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: 4711, RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: typ, Class: dnsmessage.ClassINET}},
	}
	if change != nil {
		change(&m)
	}
	raw, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func edns(size uint16) func(*dnsmessage.Message) {
	return func(m *dnsmessage.Message) {
		h := dnsmessage.ResourceHeader{Name: root()}
		if err := h.SetEDNS0(int(size), 0, false); err != nil {
			panic(err)
		}
		m.Additionals = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.OPTResource{}}}
	}
}

// said describes an answer in a line.
func said(t testing.TB, raw []byte) string {
	t.Helper()
	var m dnsmessage.Message
	if err := m.Unpack(raw); err != nil {
		t.Fatalf("%x: %v", raw, err)
	}
	if !m.Response || m.ID != 4711 || !m.RecursionAvailable {
		t.Errorf("header %+v", m.Header)
	}
	words := []string{strings.TrimPrefix(m.RCode.String(), "RCode")}
	for _, a := range m.Answers {
		if a.Header.TTL != ttl || a.Header.Name != m.Questions[0].Name {
			t.Errorf("answer %+v", a.Header)
		}
		switch b := a.Body.(type) {
		case *dnsmessage.AResource:
			words = append(words, netip.AddrFrom4(b.A).String())
		case *dnsmessage.AAAAResource:
			words = append(words, netip.AddrFrom16(b.AAAA).String())
		case *dnsmessage.PTRResource:
			words = append(words, b.PTR.String())
		}
	}
	return strings.Join(words, " ")
}

func TestAnswer(t *testing.T) {
	const four, six, ptr = dnsmessage.TypeA, dnsmessage.TypeAAAA, dnsmessage.TypePTR
	v := view()
	for _, tc := range []struct {
		name string
		typ  dnsmessage.Type
		want string // "": others are asked
	}{
		{"web.", four, "Success 10.1.0.2"}, // once, though two of its names are the same
		{"WEB.", four, "Success 10.1.0.2"},
		{"web.", six, "Success fd00:1::2"},
		{"two.", six, "Success"}, // no NXDOMAIN
		{"six.", four, "Success"},
		{"six.", six, "Success fd00:1::6"},
		{"0123456789ab.", four, "Success 10.1.0.2"},
		{"web.back.", four, "Success 10.2.0.2"},
		{"web.BACK.", six, "Success"},
		{"web.front.", four, "Success 10.1.0.2"},
		{"two.back.", four, ""},
		{"web.other.", four, ""},
		{"db.example.", four, "Success 10.2.0.3"},
		{"db.example.back.", four, "Success 10.2.0.3"},
		{"database.", four, "Success 10.2.0.3"},
		{"database.back.", four, "Success 10.2.0.3"},
		{"database.front.", four, ""},
		{"gone.", four, ""},
		{"nobody.", four, ""},
		{".", four, ""},
		{"example.com.", four, ""},
		{"web.", dnsmessage.TypeMX, ""},
		{"_http._tcp.web.", dnsmessage.TypeSRV, ""},
		{"2.0.1.10.in-addr.arpa.", ptr, "Success Web.Front."},
		{"3.0.2.10.IN-ADDR.arpa.", ptr, "Success db.example.back."},
		{"9.0.1.10.in-addr.arpa.", ptr, ""},
		{"0.1.10.in-addr.arpa.", ptr, ""},
		{"02.0.1.10.in-addr.arpa.", ptr, ""},
		{"2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.F.ip6.arpa.", ptr, "Success Web.Front."},
		{"x.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa.", ptr, ""},
	} {
		got, verdict := v.Answer(nil, pack(t, tc.name, tc.typ, nil), false)
		if verdict == Ask {
			if tc.want != "" || len(got) > 0 {
				t.Errorf("%v of %s is asked outside, want %q", tc.typ, tc.name, tc.want)
			}
		} else if s := said(t, got); verdict != Answered || s != tc.want {
			t.Errorf("%v of %s: %q, want %q", tc.typ, tc.name, s, tc.want)
		}
	}
	v.Bare = true
	if got, _ := v.Answer(nil, pack(t, "unknown.", four, nil), false); said(t, got) != "Success" {
		t.Errorf("a bare name: %q", said(t, got))
	}
	if _, verdict := v.Answer(nil, pack(t, "unknown.", dnsmessage.TypeTXT, nil), false); verdict != Ask {
		t.Errorf("another type of a bare name: %v", verdict)
	}
}

// TestSet replaces a network's names under those who use it.
func TestSet(t *testing.T) {
	v := view()
	v.Members[0].Network.Set("front", []Host{{Names: []string{"new"}, Addresses: addrs("10.1.0.9")}})
	for name, want := range map[string]string{"new.": "Success 10.1.0.9", "web.": "Success 10.2.0.2"} {
		if got, _ := v.Answer(nil, pack(t, name, dnsmessage.TypeA, nil), false); said(t, got) != want {
			t.Errorf("%s: %q, want %q", name, said(t, got), want)
		}
	}
	if _, verdict := v.Answer(nil, pack(t, "pool.", dnsmessage.TypeA, nil), false); verdict != Ask {
		t.Error("an old name is still there")
	}
}

func TestRoundRobin(t *testing.T) {
	v := view()
	first := map[string]int{}
	for range 9 {
		got, _ := v.Answer(nil, pack(t, "pool.", dnsmessage.TypeA, nil), false)
		f := strings.Fields(said(t, got))
		first[f[1]]++
		slices.Sort(f)
		if strings.Join(f, " ") != "10.1.0.2 10.1.0.3 10.1.0.4 Success" {
			t.Errorf("%q", f)
		}
	}
	if first["10.1.0.2"] != 3 || first["10.1.0.3"] != 3 || first["10.1.0.4"] != 3 {
		t.Errorf("the first was %v", first)
	}
}

func TestTruncation(t *testing.T) {
	v, h := &View{}, Host{Names: []string{"many"}}
	for i := range 100 {
		h.Addresses = append(h.Addresses, netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}))
	}
	n := &Network{}
	n.Set("n", []Host{h})
	v.Members = []Member{{Network: n}}
	for _, tc := range []struct {
		change    func(*dnsmessage.Message)
		stream    bool
		most      int
		truncated bool
	}{
		{nil, false, 512, true}, {edns(100), false, 512, true}, {edns(1232), false, 1232, true}, {edns(4096), false, 4096, false}, {nil, true, MaxLen, false},
	} {
		got, _ := v.Answer(nil, pack(t, "many.", dnsmessage.TypeA, tc.change), tc.stream)
		var m dnsmessage.Message
		if err := m.Unpack(got); err != nil {
			t.Fatal(err)
		}
		if len(got) > tc.most || m.Truncated != tc.truncated || m.Truncated == (len(m.Answers) == 100) || len(m.Answers) == 0 {
			t.Errorf("%d bytes of %d, truncated %v, %d answers", len(got), tc.most, m.Truncated, len(m.Answers))
		}
		if opt := len(m.Additionals) == 1; opt != (tc.change != nil) {
			t.Errorf("OPT in the answer: %v", opt)
		}
		if m.Truncated && tc.most-len(got) >= 26 {
			t.Errorf("%d bytes are left of %d", tc.most-len(got), tc.most)
		}
	}
}

func TestBad(t *testing.T) {
	v := view()
	plain := pack(t, "web.", dnsmessage.TypeA, nil)
	for name, tc := range map[string]struct {
		msg  []byte
		want string // "": ignored
	}{
		"empty":           {nil, ""},
		"short":           {plain[:11], ""},
		"an answer":       {pack(t, "web.", dnsmessage.TypeA, func(m *dnsmessage.Message) { m.Response = true }), ""},
		"cut":             {plain[:len(plain)-1], "FormatError"},
		"no question":     {pack(t, "web.", dnsmessage.TypeA, func(m *dnsmessage.Message) { m.Questions = nil }), "FormatError"},
		"two questions":   {pack(t, "web.", dnsmessage.TypeA, func(m *dnsmessage.Message) { m.Questions = append(m.Questions, m.Questions[0]) }), "FormatError"},
		"notify":          {pack(t, "web.", dnsmessage.TypeA, func(m *dnsmessage.Message) { m.OpCode = 4 }), "NotImplemented"},
		"pointer to self": {append(slices.Clone(plain[:12]), 0xc0, 12, 0, 1, 0, 1), "FormatError"},
		"two OPT":         {pack(t, "web.", dnsmessage.TypeA, func(m *dnsmessage.Message) { edns(512)(m); m.Additionals = append(m.Additionals, m.Additionals[0]) }), "FormatError"},
	} {
		got, verdict := v.Answer(nil, tc.msg, false)
		switch {
		case tc.want == "" && verdict != Ignore:
			t.Errorf("%s: %v", name, verdict)
		case tc.want != "" && (verdict != Answered || said(t, got) != tc.want):
			t.Errorf("%s: %v, %x", name, verdict, got)
		}
	}
}

func TestForward(t *testing.T) {
	asked := pack(t, "example.COM.", dnsmessage.TypeMX, edns(1232))
	there := Prepare(nil, asked, 99)
	var m dnsmessage.Message
	if err := m.Unpack(there); err != nil || m.ID != 99 || len(there) != len(asked) || string(there[2:]) != string(asked[2:]) {
		t.Errorf("passed on: %x of %x", there, asked)
	}
	reply := func(change func(*dnsmessage.Message)) []byte {
		return pack(t, "Example.com.", dnsmessage.TypeMX, func(m *dnsmessage.Message) {
			m.ID, m.Response = 99, true
			if change != nil {
				change(m)
			}
		})
	}
	for name, tc := range map[string]struct {
		answer     []byte
		match, bad bool
	}{
		"good":           {reply(nil), true, false},
		"nxdomain":       {reply(func(m *dnsmessage.Message) { m.RCode = dnsmessage.RCodeNameError }), true, false},
		"failure":        {reply(func(m *dnsmessage.Message) { m.RCode = dnsmessage.RCodeServerFailure }), true, true},
		"formerr":        {reply(func(m *dnsmessage.Message) { m.RCode, m.Questions = dnsmessage.RCodeFormatError, nil }), true, true},
		"other id":       {reply(func(m *dnsmessage.Message) { m.ID = 98 }), false, false},
		"a query":        {reply(func(m *dnsmessage.Message) { m.Response = false }), false, false},
		"other name":     {pack(t, "example.org.", dnsmessage.TypeMX, func(m *dnsmessage.Message) { m.ID, m.Response = 99, true }), false, false},
		"other type":     {pack(t, "example.com.", dnsmessage.TypeA, func(m *dnsmessage.Message) { m.ID, m.Response = 99, true }), false, false},
		"no question":    {reply(func(m *dnsmessage.Message) { m.Questions = nil }), false, false},
		"nothing at all": {nil, false, false},
	} {
		match, bad := Match(tc.answer, asked, 99)
		if match != tc.match || match && bad != tc.bad {
			t.Errorf("%s: %v, %v", name, match, bad)
		}
		if match && (tc.answer[0] != 4711>>8 || tc.answer[1] != 4711&255) {
			t.Errorf("%s: the id is %x", name, tc.answer[:2])
		}
	}
	if s := said(t, Refused(nil, asked)); s != "Refused" {
		t.Error(s)
	}
	if s := said(t, Failed(nil, asked)); s != "ServerFailure" {
		t.Error(s)
	}
	if got := Failed(nil, []byte("x")); got != nil {
		t.Errorf("%x", got)
	}
}

// FuzzAnswer gives every message to every way through the package: what comes out
// is a message again, not longer than it may be.
func FuzzAnswer(f *testing.F) {
	f.Add(pack(f, "web.", dnsmessage.TypeA, nil))
	f.Add(pack(f, "pool.front.", dnsmessage.TypeAAAA, edns(1232)))
	f.Add(pack(f, "2.0.1.10.in-addr.arpa.", dnsmessage.TypePTR, edns(4096)))
	f.Add(pack(f, "example.com.", dnsmessage.TypeTXT, func(m *dnsmessage.Message) { m.Response = true }))
	v := view()
	f.Fuzz(func(t *testing.T, msg []byte) {
		for _, stream := range []bool{false, true} {
			got, verdict := v.Answer(nil, msg, stream)
			if (verdict == Answered) != (len(got) > 0) || len(got) > 4096 {
				t.Fatalf("verdict %v, %d bytes", verdict, len(got))
			}
			var m dnsmessage.Message
			if err := m.Unpack(got); len(got) > 0 && (err != nil || !m.Response || got[0] != msg[0] || got[1] != msg[1]) {
				t.Fatalf("%x: %v", got, err)
			}
		}
		if failed := Failed(nil, msg); len(failed) > 512+64 {
			t.Fatalf("%d bytes", len(failed))
		}
		query := pack(t, "web.", dnsmessage.TypeA, nil)
		Match(slices.Clone(msg), query, 7)
		Match(query, msg, 7)
	})
}

func BenchmarkAnswer(b *testing.B) {
	n := &Network{}
	var hosts []Host
	for i := range 1000 {
		hosts = append(hosts, Host{Names: []string{fmt.Sprint("c", i)}, Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})}})
	}
	n.Set("n", hosts)
	v := &View{Members: []Member{{Network: n}}}
	msg, out := pack(b, "c77.", dnsmessage.TypeA, nil), make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		if _, verdict := v.Answer(out, msg, false); verdict != Answered {
			b.Fatal(verdict)
		}
	}
}
