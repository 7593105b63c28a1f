// Package loop makes block devices of files.
//
// A device is attached for as long as somebody has it open or mounted: the
// kernel detaches it then by itself (LO_FLAGS_AUTOCLEAR), so that nothing stays
// when a process dies.
//
// Sources: loop(4); Linux include/uapi/linux/loop.h.
package loop
