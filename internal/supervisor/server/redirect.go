package server

import (
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"

	"lade/internal/linux/nft"
	"lade/internal/trace"
)

// resolverTable is the table in a container's network namespace.
const resolverTable = "lade_dns"

// resolverIP is where a container's name server is: Docker's address.
const resolverIP = "\x7f\x00\x00\x0b" // 127.0.0.11

// redirect lets the ports of a name server in the calling thread's network
// namespace look like port 53, which stays free for the container: a program of
// its own may bind it on every address. Errors: EOPNOTSUPP and the like from a
// kernel without nftables.
//
// In the words of nft(8), for UDP, and likewise for TCP:
//
//	chain prerouting { type filter hook prerouting priority raw
//	                   ip daddr 127.0.0.11 udp dport 53 udp dport set PORT }
//	chain output     { type filter hook output priority raw
//	                   ip saddr 127.0.0.11 udp sport PORT udp sport set 53 }
//
// The ports are rewritten where connection tracking, which a container may have
// turned on, sees 53 in both directions: after it on the way in, as a packet on the
// loopback interface has met it in its output hook, and before it on the way out.
// There is no state for each question, and no translation of addresses, which would
// turn on connection tracking for all that the container sends.
func redirect(udp, tcp uint16) error {
	err := commit(rules(udp, tcp, false), "new table")
	if errors.Is(err, unix.EEXIST) { // of a supervisor before us
		err = commit(rules(udp, tcp, true), "replace table")
	}
	return err
}

// rules makes the table, or replaces the one that is there, which costs some
// milliseconds: closing the socket waits for its end.
func rules(udp, tcp uint16, replace bool) *nft.Batch {
	b := nft.NewBatch(resolverTable)
	if replace {
		b.AddTable()
		b.DelTable()
	}
	b.NewTable()
	b.AddChain(nft.Chain{Name: "prerouting", Type: "filter", Hook: nft.Prerouting, Priority: nft.PriorityRaw})
	b.AddChain(nft.Chain{Name: "output", Type: "filter", Hook: nft.Output, Priority: nft.PriorityRaw})
	public := nft.Port(53)
	address := func(offset uint32) nft.Expr { // 12: source, 16: destination (RFC 791)
		return nft.Payload(unix.NFT_PAYLOAD_NETWORK_HEADER, offset, 4, 0)
	}
	for _, p := range []struct {
		proto    byte
		port     []byte
		checksum uint32
	}{
		{unix.IPPROTO_UDP, binary.BigEndian.AppendUint16(nil, udp), nft.ChecksumUDP},
		{unix.IPPROTO_TCP, binary.BigEndian.AppendUint16(nil, tcp), nft.ChecksumTCP},
	} {
		b.AddRule("prerouting",
			address(16), nft.Equal(0, []byte(resolverIP)), nft.Meta(unix.NFT_META_L4PROTO, 0), nft.Equal(0, []byte{p.proto}),
			nft.DstPort(0), nft.Equal(0, public), nft.Load(0, p.port), nft.SetDstPort(0, p.checksum))
		b.AddRule("output",
			address(12), nft.Equal(0, []byte(resolverIP)), nft.Meta(unix.NFT_META_L4PROTO, 0), nft.Equal(0, []byte{p.proto}),
			nft.SrcPort(0), nft.Equal(0, p.port), nft.Load(0, public), nft.SetSrcPort(0, p.checksum))
	}
	return b
}

// direct undoes redirect.
func direct() error {
	b := nft.NewBatch(resolverTable)
	b.AddTable() // so that there is one to remove
	b.DelTable()
	return commit(b, "delete table")
}

func commit(b *nft.Batch, what string) error {
	c, err := nft.Dial()
	if err != nil {
		return err
	}
	defer c.Close()
	return trace.Begin(trace.Nft, what, resolverTable).End(c.Commit(b))
}
