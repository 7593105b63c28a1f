package nft

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Expr is one expression of a rule.
type Expr struct {
	name string
	data func(*Batch)
}

// Reg is a register of 4 bytes, counted from 0 (NFT_REG32_00 + n).
type Reg uint32

func (b *Batch) reg(attr uint16, r Reg) { b.r.Uint32BE(attr, unix.NFT_REG32_00+uint32(r)) }

// Meta loads a fact about the packet: unix.NFT_META_IIFNAME, ….
func Meta(key uint32, dst Reg) Expr {
	return Expr{"meta", func(b *Batch) {
		b.reg(unix.NFTA_META_DREG, dst)
		b.r.Uint32BE(unix.NFTA_META_KEY, key)
	}}
}

// Payload loads bytes of a header: unix.NFT_PAYLOAD_NETWORK_HEADER, ….
func Payload(base, offset, size uint32, dst Reg) Expr {
	return Expr{"payload", func(b *Batch) {
		b.reg(unix.NFTA_PAYLOAD_DREG, dst)
		b.r.Uint32BE(unix.NFTA_PAYLOAD_BASE, base)
		b.r.Uint32BE(unix.NFTA_PAYLOAD_OFFSET, offset)
		b.r.Uint32BE(unix.NFTA_PAYLOAD_LEN, size)
	}}
}

// SrcAddr loads "ip saddr" or "ip6 saddr": one register or four.
func (f Family) SrcAddr(dst Reg) Expr {
	if f == IPv6 {
		return Payload(unix.NFT_PAYLOAD_NETWORK_HEADER, 8, 16, dst)
	}
	return Payload(unix.NFT_PAYLOAD_NETWORK_HEADER, 12, 4, dst)
}

// DstAddr loads "ip daddr" or "ip6 daddr": one register or four.
func (f Family) DstAddr(dst Reg) Expr {
	if f == IPv6 {
		return Payload(unix.NFT_PAYLOAD_NETWORK_HEADER, 24, 16, dst)
	}
	return Payload(unix.NFT_PAYLOAD_NETWORK_HEADER, 16, 4, dst)
}

// Registers returns how many of them an address takes.
func (f Family) Registers() Reg { return Reg(f.size() / 4) }

// DstPort loads "th dport", the destination port of TCP, UDP and SCTP alike.
func DstPort(dst Reg) Expr { return Payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, dst) }

// CT loads a fact about the connection: unix.NFT_CT_STATE, ….
func CT(key uint32, dst Reg) Expr {
	return Expr{"ct", func(b *Batch) {
		b.reg(unix.NFTA_CT_DREG, dst)
		b.r.Uint32BE(unix.NFTA_CT_KEY, key)
	}}
}

// DstType loads "fib daddr type" (unix.RTN_LOCAL, …).
func DstType(dst Reg) Expr {
	return Expr{"fib", func(b *Batch) {
		b.reg(unix.NFTA_FIB_DREG, dst)
		b.r.Uint32BE(unix.NFTA_FIB_RESULT, unix.NFT_FIB_RESULT_ADDRTYPE)
		b.r.Uint32BE(unix.NFTA_FIB_FLAGS, unix.NFTA_FIB_F_DADDR)
	}}
}

// Mask keeps the bits of mask in a register, in place.
func Mask(r Reg, mask []byte) Expr {
	return Expr{"bitwise", func(b *Batch) {
		b.reg(unix.NFTA_BITWISE_SREG, r)
		b.reg(unix.NFTA_BITWISE_DREG, r)
		b.r.Uint32BE(unix.NFTA_BITWISE_LEN, uint32(len(mask)))
		b.data(unix.NFTA_BITWISE_MASK, mask)
		b.data(unix.NFTA_BITWISE_XOR, make([]byte, len(mask)))
	}}
}

func compare(op uint32, r Reg, v []byte) Expr {
	return Expr{"cmp", func(b *Batch) {
		b.reg(unix.NFTA_CMP_SREG, r)
		b.r.Uint32BE(unix.NFTA_CMP_OP, op)
		b.data(unix.NFTA_CMP_DATA, v)
	}}
}

// Equal goes on with the rule when a register holds v.
func Equal(r Reg, v []byte) Expr { return compare(unix.NFT_CMP_EQ, r, v) }

// Differ goes on with the rule when a register does not hold v.
func Differ(r Reg, v []byte) Expr { return compare(unix.NFT_CMP_NEQ, r, v) }

// Name encodes the name of an interface for a comparison.
func Name(s string) []byte {
	v := make([]byte, unix.IFNAMSIZ)
	copy(v, s)
	return v
}

// Host encodes a number in the byte order of the machine, in which meta and ct
// load numbers.
func Host(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

// Lookup finds the key that begins in a register in a map and loads the value;
// the rule ends when there is none.
func Lookup(m string, key, dst Reg) Expr {
	return Expr{"lookup", func(b *Batch) {
		b.r.String(unix.NFTA_LOOKUP_SET, m)
		b.reg(unix.NFTA_LOOKUP_SREG, key)
		b.reg(unix.NFTA_LOOKUP_DREG, dst)
	}}
}

// Contains goes on with the rule when a set has the key that begins in a
// register.
func Contains(set string, key Reg) Expr {
	return Expr{"lookup", func(b *Batch) {
		b.r.String(unix.NFTA_LOOKUP_SET, set)
		b.reg(unix.NFTA_LOOKUP_SREG, key)
	}}
}

// Dispatch jumps to the chain that a map to verdicts has for the key that begins
// in a register, and goes on when there is none or at the end of that chain.
func Dispatch(m string, key Reg) Expr {
	return Expr{"lookup", func(b *Batch) {
		b.r.String(unix.NFTA_LOOKUP_SET, m)
		b.reg(unix.NFTA_LOOKUP_SREG, key)
		b.r.Uint32BE(unix.NFTA_LOOKUP_DREG, unix.NFT_REG_VERDICT)
	}}
}

// DstNAT rewrites the destination ("dnat ip to addr : port") and ends the hook.
func DstNAT(addr, port Reg) Expr {
	return Expr{"nat", func(b *Batch) {
		b.r.Uint32BE(unix.NFTA_NAT_TYPE, unix.NFT_NAT_DNAT)
		b.r.Uint32BE(unix.NFTA_NAT_FAMILY, uint32(b.family))
		b.reg(unix.NFTA_NAT_REG_ADDR_MIN, addr)
		b.reg(unix.NFTA_NAT_REG_PROTO_MIN, port)
	}}
}

// DstNATAddr rewrites the destination's address only ("dnat ip to addr").
func DstNATAddr(addr Reg) Expr {
	return Expr{"nat", func(b *Batch) {
		b.r.Uint32BE(unix.NFTA_NAT_TYPE, unix.NFT_NAT_DNAT)
		b.r.Uint32BE(unix.NFTA_NAT_FAMILY, uint32(b.family))
		b.reg(unix.NFTA_NAT_REG_ADDR_MIN, addr)
	}}
}

// Masquerade rewrites the source to the address of the interface that the
// packet leaves by.
func Masquerade() Expr { return Expr{"masq", func(*Batch) {}} }

func verdict(code int32, chain string) Expr {
	return Expr{"immediate", func(b *Batch) {
		b.r.Uint32BE(unix.NFTA_IMMEDIATE_DREG, unix.NFT_REG_VERDICT)
		b.verdict(unix.NFTA_IMMEDIATE_DATA, code, chain)
	}}
}

// verdict adds an attribute that holds a verdict.
func (b *Batch) verdict(typ uint16, code int32, chain string) {
	d := b.r.Nest(typ | nested)
	v := b.r.Nest(unix.NFTA_DATA_VERDICT | nested)
	b.r.Uint32BE(unix.NFTA_VERDICT_CODE, uint32(code))
	if chain != "" {
		b.r.String(unix.NFTA_VERDICT_CHAIN, chain)
	}
	b.r.End(v)
	b.r.End(d)
}

// Accept lets the packet pass this table.
func Accept() Expr { return verdict(1, "") } // NF_ACCEPT

// Drop discards the packet; no other table can undo that.
func Drop() Expr { return verdict(0, "") } // NF_DROP

// Jump goes on in another chain and comes back at its end.
func Jump(chain string) Expr { return verdict(unix.NFT_JUMP, chain) }
