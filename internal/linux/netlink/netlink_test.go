package netlink

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lade/internal/need"
)

// TestEncode compares requests with bytes worked out by hand from the headers
// named in doc.go; they are not numbered yet and ask for no acknowledgement.
func TestEncode(t *testing.T) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the bytes are those of a little-endian machine")
	}
	for _, tc := range []struct {
		name  string
		build func(*Request)
		want  string
	}{
		{"up", func(r *Request) { r.SetUp(3, "") }, "20000000 1000 0100 00000000 00000000" + "00000000 03000000 01000000 01000000"},
		{"up by name", func(r *Request) { r.SetUp(0, "lo") }, "28000000 1000 0100 00000000 00000000" + "00000000 00000000 01000000 01000000" + "0700 0300 6c6f0000"},
		{"address", func(r *Request) { r.AddAddr(2, netip.MustParsePrefix("10.1.2.3/24")) },
			"30000000 1400 0106 00000000 00000000" + "02180000 02000000" + "0800 0200 0a010203" + "0800 0100 0a010203" + "0800 0400 0a0102ff"},
		{"default route", func(r *Request) { r.AddDefaultRoute(2, netip.MustParseAddr("10.1.2.1")) },
			"2c000000 1800 0106 00000000 00000000" + "02000000 fe030001 00000000" + "0800 0500 0a010201" + "0800 0400 02000000"},
		{"delete", func(r *Request) { r.DelLink(7) }, "20000000 1100 0100 00000000 00000000" + "00000000 07000000 00000000 00000000"},
		{"port", func(r *Request) { r.SetPort(7, "", true, false) },
			"44000000 1000 0100 00000000 00000000" + "00000000 07000000 00000000 00000000" + "2400 1200" + "0b00 0400 627269646765 0000" + "1400 0500" + "0500 0400 01000000" + "0500 2100 00000000"},
		{"bridge", func(r *Request) { r.AddBridge("b0", []byte{2, 0x42, 1, 2, 3, 4}, 1500) },
			"4c000000 1000 0106 00000000 00000000" + "00000000 00000000 01000000 01000000" + "0700 0300 62300000" + "0a00 0100 0242010203040000" + "0800 0400 dc050000" + "1000 1200" + "0b00 0100 627269646765 0000"},
	} {
		var r Request
		tc.build(&r)
		if got, want := hex.EncodeToString(r.Bytes()), strings.ReplaceAll(tc.want, " ", ""); got != want {
			t.Errorf("%s:\n got %s\nwant %s", tc.name, got, want)
		}
	}
}

// TestLast checks broadcast addresses.
func TestLast(t *testing.T) {
	for in, want := range map[string]string{"10.1.2.3/24": "10.1.2.255", "10.1.2.3/16": "10.1.255.255", "10.1.2.3/30": "10.1.2.3", "10.1.2.3/8": "10.255.255.255"} {
		if got := last(netip.MustParsePrefix(in)); got.String() != want {
			t.Errorf("last(%s) = %s", in, got)
		}
	}
}

// FuzzParse feeds datagrams to all that reads them.
func FuzzParse(f *testing.F) {
	var r Request
	r.AddBridge("b0", []byte{2, 0x42, 1, 2, 3, 4}, 1500)
	r.AddAddr(2, netip.MustParsePrefix("10.1.2.3/24"))
	r.AddDefaultRoute(2, netip.MustParseAddr("10.1.2.1"))
	r.AddVeth(Veth{Name: "a", Peer: "b", NoIPv6: true})
	f.Add(r.Bytes())
	f.Add([]byte{17, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		for m := range messages(b) {
			ParseLink(m)
			ParseRoute(m)
			if a, ok := parseAddr(m); ok && !a.Prefix.IsValid() {
				t.Error("an address that is none")
			}
			for _, v := range Attrs(m.Data) {
				Text(v)
				Uint32(v)
			}
		}
	})
}

// TestKernel reads what every namespace has, and sees a refusal.
func TestKernel(t *testing.T) {
	c, err := Dial(unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	lo, err := c.Link(0, "lo")
	if err != nil || lo.Index != 1 || lo.Name != "lo" || lo.Kind != "" {
		t.Errorf("lo = %+v, %v", lo, err)
	}
	if again, err := c.Link(1, ""); err != nil || again.Name != "lo" {
		t.Errorf("link 1 = %+v, %v", again, err)
	}
	if _, err := c.Link(0, "ladetest-none"); !errors.Is(err, unix.ENODEV) {
		t.Errorf("a link that is not there: %v", err)
	}
	links, err := c.Links()
	if err != nil || len(links) == 0 {
		t.Errorf("links %v, %v", links, err)
	}
	if _, err := c.Addrs(); err != nil {
		t.Error(err)
	}
	if _, err := c.Routes(); err != nil {
		t.Error(err)
	}
	if err := c.Do(&Request{}); err != nil {
		t.Errorf("an empty request: %v", err)
	}
}

// TestRefusal checks which message of a request is blamed, and that later
// requests on the same socket are not confused by what remains unread.
func TestRefusal(t *testing.T) {
	need.Root(t)
	c, err := Dial(unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 3 {
		var r Request
		const none = 0x7fffff00
		r.SetUp(1, "") // lo, which is up
		r.SetUp(none, "")
		r.DelLink(none)
		r.SetUp(1, "")
		err := c.Do(&r)
		if e, ok := errors.AsType[*Error](err); !ok || e.Message != 2 || !errors.Is(err, unix.ENODEV) {
			t.Errorf("refusal %v", err)
		}
		if _, err := c.Links(); err != nil {
			t.Error(err)
		}
		r.Reset()
		r.SetUp(1, "")
		if err := c.Do(&r); err != nil {
			t.Error(err)
		}
	}
}

// TestMonitor closes a Monitor that waits.
func TestMonitor(t *testing.T) {
	m, err := Listen(unix.NETLINK_ROUTE, unix.RTNLGRP_LINK)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() {
		for {
			if err := m.Receive(func(Message) {}); err != nil {
				done <- err
				return
			}
		}
	}()
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
}
