// Package netrate has the words for limits of a container's network bandwidth:
// rates in bits per second as users write them, what a request asks for, and
// the limits that follow from it.
//
//	--net-rate-in 100mbit   what the container receives
//	--net-rate-out 10m      what it sends
//	--net-burst 64k         what may pass at once after a pause
//
// The units of rates are those of networks, powers of 1000; those of bytes are
// Docker's, powers of 1024. A rate counts Ethernet frames from the destination
// address to the end of the payload, as the kernel's queueing disciplines do:
// 1514 bytes for a full packet of 1500, of which TCP carries 1448. So TCP gets
// 95.6 % of the rate.
//
// Sources: tc(8), "PARAMETERS" (rates), tc-tbf(8).
//
// Values are not shared; all functions are pure.
package netrate
