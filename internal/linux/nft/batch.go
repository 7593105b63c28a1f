package nft

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"lade/internal/linux/netlink"
)

// perMessage is how many elements one message takes: they share one attribute,
// whose length has 16 bits.
const perMessage = 256

// nested is the type flag of an attribute that holds attributes.
const nested = unix.NLA_F_NESTED

// What golang.org/x/sys has not, of include/uapi/linux/netfilter/nf_tables.h.
const (
	flagConcat   = 0x80 // NFT_SET_CONCAT
	attrConcat   = 2    // NFTA_SET_DESC_CONCAT
	attrFieldLen = 1    // NFTA_SET_FIELD_LEN
	attrKeyEnd   = 10   // NFTA_SET_ELEM_KEY_END
)

// The families of tables. An IPv4 and an IPv6 table may have the same name.
const (
	IPv4 Family = unix.NFPROTO_IPV4
	IPv6 Family = unix.NFPROTO_IPV6
)

// Family says which packets a table sees.
type Family uint8

// size returns the length of an address.
func (f Family) size() uint32 {
	if f == IPv6 {
		return 16
	}
	return 4
}

// Batch is a transaction under construction. The zero value is empty.
type Batch struct {
	r      netlink.Request
	table  string
	family Family
}

// NewBatch returns a transaction on the tables of one name; it begins with the
// IPv4 table.
func NewBatch(table string) *Batch {
	b := &Batch{table: table, family: IPv4}
	b.control(unix.NFNL_MSG_BATCH_BEGIN)
	return b
}

// In says which table the following messages are about.
func (b *Batch) In(f Family) { b.family = f }

// Family returns the one of the present table.
func (b *Batch) Family() Family { return b.family }

func (b *Batch) control(typ uint16) {
	b.r.Message(typ, 0)
	b.r.Header(0, 0, 0, unix.NFNL_SUBSYS_NFTABLES) // struct nfgenmsg; res_id is big-endian
}

func (b *Batch) message(typ, flags uint16) {
	b.r.Message(unix.NFNL_SUBSYS_NFTABLES<<8|typ, flags)
	b.r.Header(uint8(b.family), 0, 0, 0)
}

// AddTable creates the table, or does nothing if it exists.
func (b *Batch) AddTable() {
	b.message(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE)
	b.r.String(unix.NFTA_TABLE_NAME, b.table)
}

// OwnTable creates the table for the Conn that commits it: nobody else can change
// it, and it goes with the Conn. Errors of Commit: EPERM if it is somebody else's
// in this sense, EEXIST if it is there.
//
// Source: NFT_TABLE_F_OWNER (Linux 5.12), "flags owner" in nft(8).
func (b *Batch) OwnTable() {
	const ownerFlag = 2 // NFT_TABLE_F_OWNER
	b.NewTable()
	b.r.Uint32BE(unix.NFTA_TABLE_FLAGS, ownerFlag)
}

// DelTable removes the table with all that is in it.
func (b *Batch) DelTable() {
	b.message(unix.NFT_MSG_DELTABLE, 0)
	b.r.String(unix.NFTA_TABLE_NAME, b.table)
}

// Hooks and priorities, as nft(8) names them.
const (
	Prerouting  = 0
	Input       = 1
	Forward     = 2
	Output      = 3
	Postrouting = 4

	PriorityRaw    = -300
	PriorityMangle = -150
	PriorityDstNAT = -100
	PriorityFilter = 0
	PrioritySrcNAT = 100
)

// Chain is a list of rules. Without a Type it is reached by Jump only.
type Chain struct {
	Name     string
	Type     string // "filter" or "nat"
	Hook     uint32
	Priority int32
}

// AddChain creates a chain whose policy is accept.
func (b *Batch) AddChain(c Chain) {
	b.message(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE)
	b.r.String(unix.NFTA_CHAIN_TABLE, b.table)
	b.r.String(unix.NFTA_CHAIN_NAME, c.Name)
	if c.Type == "" {
		return
	}
	h := b.r.Nest(unix.NFTA_CHAIN_HOOK | nested)
	b.r.Uint32BE(unix.NFTA_HOOK_HOOKNUM, c.Hook)
	b.r.Uint32BE(unix.NFTA_HOOK_PRIORITY, uint32(c.Priority))
	b.r.End(h)
	b.r.String(unix.NFTA_CHAIN_TYPE, c.Type)
}

// Field is a part of a key or a value: its number in nft(8), which only nft(8)
// reads in order to print it, and its length in bytes.
type Field struct{ typ, size uint32 }

// Fields returns the fields that keys of a family's tables are made of. Source:
// include/datatype.h of nftables (enum datatypes).
func (f Family) Fields() (addr, proto, port Field) {
	addr = Field{7, 4}
	if f == IPv6 {
		addr = Field{8, 16}
	}
	return addr, Field{12, 1}, Field{13, 2}
}

// Interface is the name of a network interface as a field of a key.
func Interface() Field { return Field{41, unix.IFNAMSIZ} }

// shape returns the type number of a concatenation (6 bits for each field) and
// its length, every field padded to a register.
func shape(fields []Field) (typ, size uint32) {
	for _, f := range fields {
		typ = typ<<6 | f.typ
		size += (f.size + 3) &^ 3
	}
	if len(fields) == 1 {
		size = fields[0].size
	}
	return typ, size
}

// Map is a hash table from a key to a value.
type Map struct {
	Name  string
	Key   []Field
	Value []Field // nil: a verdict
	// Intervals makes every key a range, from Element.Key to Element.KeyEnd in each
	// of its fields. Ranges must not overlap (Linux 5.6).
	Intervals bool
}

// AddMap creates a map.
func (b *Batch) AddMap(m Map) {
	kt, kl := shape(m.Key)
	vt, vl := shape(m.Value)
	if m.Value == nil {
		vt, vl = unix.NFT_DATA_VERDICT, 0
	}
	b.message(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE)
	b.r.String(unix.NFTA_SET_TABLE, b.table)
	b.r.String(unix.NFTA_SET_NAME, m.Name)
	if m.Intervals {
		b.r.Uint32BE(unix.NFTA_SET_FLAGS, unix.NFT_SET_MAP|unix.NFT_SET_INTERVAL|flagConcat)
		b.concatenation(m.Key)
	} else {
		b.r.Uint32BE(unix.NFTA_SET_FLAGS, unix.NFT_SET_MAP)
	}
	b.r.Uint32BE(unix.NFTA_SET_KEY_TYPE, kt)
	b.r.Uint32BE(unix.NFTA_SET_KEY_LEN, kl)
	b.r.Uint32BE(unix.NFTA_SET_DATA_TYPE, vt)
	if m.Key[0] == Interface() {
		// nft(8) reads a name from its end unless told that it is in the byte
		// order of the machine (NFTNL_UDATA_SET_KEYBYTEORDER of libnftnl).
		b.r.Attr(unix.NFTA_SET_USERDATA, append([]byte{0, 4}, Host(1)...))
	}
	if vl > 0 {
		b.r.Uint32BE(unix.NFTA_SET_DATA_LEN, vl)
	}
	// The kernel wants a number for every set of a batch, used or not.
	b.r.Uint32BE(unix.NFTA_SET_ID, uint32(b.r.Messages()))
}

// concatenation says how long each field of a key is.
func (b *Batch) concatenation(key []Field) {
	desc := b.r.Nest(unix.NFTA_SET_DESC | nested)
	all := b.r.Nest(attrConcat | nested)
	for _, f := range key {
		el := b.r.Nest(unix.NFTA_LIST_ELEM | nested)
		b.r.Uint32BE(attrFieldLen, f.size)
		b.r.End(el)
	}
	b.r.End(all)
	b.r.End(desc)
}

// AddSet creates a set of keys.
func (b *Batch) AddSet(name string, key ...Field) {
	typ, size := shape(key)
	b.message(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE)
	b.r.String(unix.NFTA_SET_TABLE, b.table)
	b.r.String(unix.NFTA_SET_NAME, name)
	b.r.Uint32BE(unix.NFTA_SET_KEY_TYPE, typ)
	b.r.Uint32BE(unix.NFTA_SET_KEY_LEN, size)
	b.r.Uint32BE(unix.NFTA_SET_ID, uint32(b.r.Messages()))
}

// Element is an entry of a map, or without a Value of a set, encoded by Join.
type Element struct {
	Key, Value []byte
	KeyEnd     []byte // the last key, in a map of intervals
	Jump       string // the chain, in a map to verdicts
}

// Join encodes the fields of a key or a value: each padded to a register.
func Join(fields ...[]byte) []byte {
	var out []byte
	for _, f := range fields {
		out = append(out, f...)
		for len(out)%4 != 0 {
			out = append(out, 0)
		}
	}
	return out
}

// Port encodes a port number.
func Port(p uint16) []byte { return binary.BigEndian.AppendUint16(nil, p) }

// AddElements adds entries to a map; one that is there with the same value does
// no harm. Errors of Commit: EEXIST for another value.
func (b *Batch) AddElements(m string, es []Element) {
	b.elements(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, m, es)
}

// DelElements removes entries from a map by their keys. Errors of Commit:
// ENOENT when one is not there.
func (b *Batch) DelElements(m string, es []Element) {
	b.elements(unix.NFT_MSG_DELSETELEM, 0, m, es)
}

func (b *Batch) elements(typ, flags uint16, m string, es []Element) {
	for len(es) > 0 {
		n := min(len(es), perMessage)
		b.message(typ, flags)
		b.r.String(unix.NFTA_SET_ELEM_LIST_TABLE, b.table)
		b.r.String(unix.NFTA_SET_ELEM_LIST_SET, m)
		list := b.r.Nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS | nested)
		for _, e := range es[:n] {
			el := b.r.Nest(unix.NFTA_LIST_ELEM | nested)
			b.data(unix.NFTA_SET_ELEM_KEY, e.Key)
			if e.KeyEnd != nil {
				b.data(attrKeyEnd, e.KeyEnd)
			}
			switch {
			case typ != unix.NFT_MSG_NEWSETELEM:
			case e.Value == nil && e.Jump == "": // of a set
			case e.Jump != "":
				b.verdict(unix.NFTA_SET_ELEM_DATA, unix.NFT_JUMP, e.Jump)
			default:
				b.data(unix.NFTA_SET_ELEM_DATA, e.Value)
			}
			b.r.End(el)
		}
		b.r.End(list)
		es = es[n:]
	}
}

func (b *Batch) data(typ uint16, v []byte) {
	d := b.r.Nest(typ | nested)
	b.r.Attr(unix.NFTA_DATA_VALUE, v)
	b.r.End(d)
}

// AddRule appends a rule to a chain.
func (b *Batch) AddRule(chain string, exprs ...Expr) {
	b.message(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND)
	b.r.String(unix.NFTA_RULE_TABLE, b.table)
	b.r.String(unix.NFTA_RULE_CHAIN, chain)
	list := b.r.Nest(unix.NFTA_RULE_EXPRESSIONS | nested)
	for _, e := range exprs {
		el := b.r.Nest(unix.NFTA_LIST_ELEM | nested)
		b.r.String(unix.NFTA_EXPR_NAME, e.name)
		d := b.r.Nest(unix.NFTA_EXPR_DATA | nested)
		e.data(b)
		b.r.End(d)
		b.r.End(el)
	}
	b.r.End(list)
}

// Conn commits transactions in the network namespace where it was opened.
type Conn struct{ c *netlink.Conn }

// Dial opens a Conn in the network namespace of the calling thread. The caller
// must Close it.
func Dial() (*Conn, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, err
	}
	return &Conn{c}, nil
}

// Close closes the socket.
func (c *Conn) Close() error { return c.c.Close() }

// Commit executes the batch, which must not be used again. It blocks until the
// transaction is in force. Errors: the kernel's errno; then nothing changed.
func (c *Conn) Commit(b *Batch) error {
	b.r.Ack()
	acked := b.r.Messages()
	b.control(unix.NFNL_MSG_BATCH_END)
	return c.c.DoAcked(&b.r, acked)
}

// Tables returns the names of the namespace's tables of a family.
func (c *Conn) Tables(f Family) (names []string, err error) {
	var r netlink.Request
	r.Message(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_GETTABLE, unix.NLM_F_DUMP)
	r.Header(uint8(f), 0, 0, 0)
	err = c.c.Dump(&r, func() { names = nil }, func(m netlink.Message) {
		if name, ok := tableOf(m); ok {
			names = append(names, name)
		}
	})
	return names, err
}

// tableOf returns the name in a message about an IPv4 or IPv6 table.
func tableOf(m netlink.Message) (name string, ok bool) {
	const nfgenmsg = 4
	if len(m.Data) < nfgenmsg || m.Data[0] != uint8(IPv4) && m.Data[0] != uint8(IPv6) {
		return "", false
	}
	for t, v := range netlink.Attrs(m.Data[nfgenmsg:]) {
		if t == unix.NFTA_TABLE_NAME {
			return netlink.Text(v), true
		}
	}
	return "", false
}

// Monitor tells which tables are removed.
type Monitor struct{ m *netlink.Monitor }

// Watch begins to listen in the network namespace of the calling thread. The
// caller must Close the Monitor.
func Watch() (*Monitor, error) {
	m, err := netlink.Listen(unix.NETLINK_NETFILTER, unix.NFNLGRP_NFTABLES)
	if err != nil {
		return nil, err
	}
	return &Monitor{m}, nil
}

// Receive blocks for notifications and calls removed with the name of each
// IPv4 or IPv6 table that was removed. Errors: as netlink.Monitor's.
func (m *Monitor) Receive(removed func(table string)) error {
	return m.m.Receive(func(msg netlink.Message) {
		if msg.Type != unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_DELTABLE {
			return
		}
		if name, ok := tableOf(msg); ok {
			removed(name)
		}
	})
}

// Close ends Receive.
func (m *Monitor) Close() error { return m.m.Close() }
