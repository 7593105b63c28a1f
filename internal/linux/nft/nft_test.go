package nft

import (
	"encoding/hex"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"lade/internal/linux/netlink"
	"lade/internal/linux/netns"
	"lade/internal/need"
)

func TestShape(t *testing.T) {
	addr, proto, port := IPv4.Fields()
	for _, tc := range []struct {
		fields    []Field
		typ, size uint32
	}{
		{[]Field{addr}, 7, 4}, {[]Field{port}, 13, 2}, {[]Field{proto, port}, 12<<6 | 13, 8}, {[]Field{addr, proto, port}, (7<<6|12)<<6 | 13, 12},
	} {
		if typ, size := shape(tc.fields); typ != tc.typ || size != tc.size {
			t.Errorf("shape(%v) = %d, %d", tc.fields, typ, size)
		}
	}
	if got := Join([]byte{10, 0, 0, 1}, []byte{6}, Port(8080)); hex.EncodeToString(got) != "0a00000106000000"+"1f900000" {
		t.Errorf("Join = %x", got)
	}
}

// TestElement compares the transaction of one published port with bytes worked
// out by hand from include/uapi/linux/netfilter/nf_tables.h.
func TestElement(t *testing.T) {
	b := NewBatch("t")
	b.AddElements("m", []Element{{Key: Join([]byte{6}, Port(8080)), Value: Join([]byte{172, 17, 0, 2}, Port(80))}})
	want := strings.ReplaceAll("14000000 1000 0100 00000000 00000000 0000000a"+ // batch begin
		"4c000000 0c0a 0104 00000000 00000000 02000000"+ // NEWSETELEM, ip
		"0600 0100 74000000"+"0600 0200 6d000000"+ // table, set
		"2800 0380"+"2400 0180"+ // elements, element
		"1000 0180"+"0c00 0100 06000000 1f900000"+ // key
		"1000 0280"+"0c00 0100 ac110002 00500000", // value
		" ", "")
	if got := hex.EncodeToString(b.r.Bytes()); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

// TestTransaction checks on the kernel that a batch is all or nothing, and
// that elements come and go.
func TestTransaction(t *testing.T) {
	need.Root(t)
	ns, err := netns.New(func(*os.File) error { return transaction(t) })
	if err != nil {
		t.Fatal(err)
	}
	ns.Close()
}

func transaction(t *testing.T) error {
	c, err := Dial()
	if err != nil {
		return err
	}
	defer c.Close()
	tables := func(want ...string) {
		t.Helper()
		if got, err := c.Tables(IPv4); err != nil || !slices.Equal(got, want) {
			t.Errorf("tables %v, %v; want %v", got, err, want)
		}
	}
	addr, proto, port := IPv4.Fields()
	m := Map{Name: "m", Key: []Field{proto, port}, Value: []Field{addr, port}}

	bad := NewBatch("one")
	bad.AddTable()
	bad.AddMap(m)
	bad.DelElements("m", []Element{{Key: Join([]byte{6}, Port(1))}})
	if err := c.Commit(bad); !errors.Is(err, unix.ENOENT) {
		t.Errorf("a batch that removes what is not there: %v", err)
	}
	tables()

	good := NewBatch("one")
	good.AddTable()
	good.AddMap(m)
	good.AddChain(Chain{Name: "pub"})
	good.AddChain(Chain{Name: "pre", Type: "nat", Hook: Prerouting, Priority: PriorityDstNAT})
	good.AddRule("pub", Meta(unix.NFT_META_L4PROTO, 0), DstPort(1), Lookup("m", 0, 4), DstNAT(4, 5))
	good.AddRule("pre", DstType(0), Equal(0, Host(unix.RTN_LOCAL)), Jump("pub"))
	if err := c.Commit(good); err != nil {
		t.Fatalf("a table: %v", err)
	}
	tables("one")

	// More elements than a message holds, and more bytes than the send buffer.
	var many []Element
	for i := range 20000 {
		many = append(many, Element{Key: Join([]byte{17}, Port(uint16(i))), Value: Join([]byte{10, 0, 0, 1}, Port(uint16(i)))})
	}
	add := NewBatch("one")
	add.AddElements("m", many)
	if err := c.Commit(add); err != nil {
		t.Fatalf("%d elements: %v", len(many), err)
	}
	again := NewBatch("one")
	again.AddElements("m", many[:1])
	if err := c.Commit(again); err != nil {
		t.Errorf("the same element again: %v", err)
	}
	other := NewBatch("one")
	other.AddElements("m", []Element{{Key: many[0].Key, Value: Join([]byte{10, 0, 0, 2}, Port(1))}})
	if err := c.Commit(other); !errors.Is(err, unix.EEXIST) {
		t.Errorf("another value for a key: %v", err)
	}
	del := NewBatch("one")
	del.DelElements("m", many)
	if err := c.Commit(del); err != nil {
		t.Errorf("removing: %v", err)
	}
	replace := NewBatch("one")
	replace.DelTable()
	if err := c.Commit(replace); err != nil {
		t.Error(err)
	}
	tables()
	return nil
}

// FuzzTableOf feeds notifications.
func FuzzTableOf(f *testing.F) {
	b := NewBatch("x")
	b.AddTable()
	f.Add(b.r.Bytes()[36:])
	f.Fuzz(func(t *testing.T, data []byte) {
		if name, ok := tableOf(netlink.Message{Data: data}); ok && strings.Contains(name, "\x00") {
			t.Errorf("%q", name)
		}
	})
}
