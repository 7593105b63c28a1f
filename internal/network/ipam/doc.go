// Package ipam gives out the addresses of a subnet and finds subnets that
// collide with nothing.
//
// An Allocator is a bitmap. It goes round: the next address is the first free
// one after the last, so that an address rests as long as possible before
// another container gets it (neighbours, connection tracking and DNS answers
// still know the old one). It is not safe for concurrent use, and keeps
// nothing on disk: its owner takes what its records say again.
//
// Source: RFC 1122 3.2.1.3 (network and broadcast address).
package ipam
