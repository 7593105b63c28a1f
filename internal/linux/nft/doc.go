// Package nft changes nftables through netlink: tables, chains, sets, maps and
// rules, in transactions. It executes no program and reads nothing back; a
// table is made anew from what its owner knows.
//
//	NFNL_MSG_BATCH_BEGIN
//	  NFT_MSG_NEWTABLE, NFT_MSG_NEWCHAIN, NFT_MSG_NEWRULE, …
//	NFNL_MSG_BATCH_END
//
// A batch takes effect as a whole or not at all, between two packets.
//
// A rule is a list of expressions of the kernel's virtual machine, which work
// on 16 registers of 4 bytes; a key of several fields lies in registers that
// follow each other, each field padded to 4 bytes. Expressions write the words
// of nft(8) in their comments.
//
// Only the IPv4 family is used so far.
//
// Sources: include/uapi/linux/netfilter/{nfnetlink,nf_tables}.h,
// net/netfilter/nf_tables_api.c, nfnetlink.c (nfnetlink_rcv_batch), nft(8).
package nft
