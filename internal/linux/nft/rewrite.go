package nft

import "golang.org/x/sys/unix"

// NewTable creates the table. Errors of Commit: EEXIST if it is there.
func (b *Batch) NewTable() {
	b.message(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	b.r.String(unix.NFTA_TABLE_NAME, b.table)
}

// Load puts a value into a register.
func Load(r Reg, v []byte) Expr {
	return Expr{"immediate", func(b *Batch) {
		b.reg(unix.NFTA_IMMEDIATE_DREG, r)
		b.data(unix.NFTA_IMMEDIATE_DATA, v)
	}}
}

// SrcPort loads "th sport".
func SrcPort(dst Reg) Expr { return Payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, 0, 2, dst) }

// Offsets of the checksum in the headers of UDP (RFC 768) and TCP (RFC 9293).
const (
	ChecksumUDP = 6
	ChecksumTCP = 16
)

// SetSrcPort writes a port from a register into the packet ("udp sport set", "tcp
// sport set") and corrects the checksum at that offset. Connection tracking is not
// involved.
func SetSrcPort(from Reg, checksum uint32) Expr { return setPort(0, from, checksum) }

// SetDstPort is SetSrcPort for "dport".
func SetDstPort(from Reg, checksum uint32) Expr { return setPort(2, from, checksum) }

func setPort(offset uint32, from Reg, checksum uint32) Expr {
	return Expr{"payload", func(b *Batch) {
		b.reg(unix.NFTA_PAYLOAD_SREG, from)
		b.r.Uint32BE(unix.NFTA_PAYLOAD_BASE, unix.NFT_PAYLOAD_TRANSPORT_HEADER)
		b.r.Uint32BE(unix.NFTA_PAYLOAD_OFFSET, offset)
		b.r.Uint32BE(unix.NFTA_PAYLOAD_LEN, 2)
		b.r.Uint32BE(unix.NFTA_PAYLOAD_CSUM_TYPE, unix.NFT_PAYLOAD_CSUM_INET)
		b.r.Uint32BE(unix.NFTA_PAYLOAD_CSUM_OFFSET, checksum)
	}}
}

// SetMark writes the packet's mark from a register ("meta mark set").
func SetMark(from Reg) Expr {
	return Expr{"meta", func(b *Batch) {
		b.reg(unix.NFTA_META_SREG, from)
		b.r.Uint32BE(unix.NFTA_META_KEY, unix.NFT_META_MARK)
	}}
}

// SetConnectionMark writes the connection's mark from a register ("ct mark set").
func SetConnectionMark(from Reg) Expr {
	return Expr{"ct", func(b *Batch) {
		b.reg(unix.NFTA_CT_SREG, from)
		b.r.Uint32BE(unix.NFTA_CT_KEY, unix.NFT_CT_MARK)
	}}
}
