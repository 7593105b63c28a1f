// Package iprange has ranges of IP addresses as users write them for the sources
// that may reach a published port:
//
//	10.0.0.0/8            a subnet
//	10.1.2.3              one address
//	10.1.2.3-10.1.2.9     from one to another
//
// A Range is a value and is not changed; all functions are pure.
//
// Sources: RFC 4632 (prefixes), nft(8) "INTERVALS", whose words these are.
package iprange
