package nft

import "golang.org/x/sys/unix"

// Immediate loads a value.
func Immediate(dst Reg, v []byte) Expr {
	return Expr{"immediate", func(b *Batch) {
		b.reg(unix.NFTA_IMMEDIATE_DREG, dst)
		b.data(unix.NFTA_IMMEDIATE_DATA, v)
	}}
}

// SrcNAT translates the source to the address in a register; the kernel chooses
// the port. Source: nft(8), "NAT STATEMENTS".
func SrcNAT(addr Reg) Expr {
	return Expr{"nat", func(b *Batch) {
		b.r.Uint32BE(unix.NFTA_NAT_TYPE, unix.NFT_NAT_SNAT)
		b.r.Uint32BE(unix.NFTA_NAT_FAMILY, uint32(b.family))
		b.reg(unix.NFTA_NAT_REG_ADDR_MIN, addr)
	}}
}
