// Package xfrm tells the kernel which datagrams of this host it is to encrypt, and
// how: IPsec's policies and states, in transport mode with ESP.
//
//	policy  what is sent to, or comes for, a UDP port of an address must be in ESP;
//	        what cannot be is dropped
//	state   one direction between two hosts: the number that the datagrams have
//	        (SPI) and the keys
//
// A policy and the states that serve it have a number in common, the request id.
//
// Concurrency: a Conn may be used by several goroutines.
//
// Sources: ip-xfrm(8); include/uapi/linux/xfrm.h; net/xfrm/xfrm_user.c;
// RFC 4301, RFC 4303.
package xfrm
