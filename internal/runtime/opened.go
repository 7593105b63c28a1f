package runtime

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"lade/internal/linux/ns"
	"lade/internal/linux/sys"
	"lade/internal/program"
)

// opened are descriptors that ops of a program open for the caller, in the table
// that it shares with it (program.Options.Files).
type opened []descriptor

type descriptor struct {
	at []byte // where the op stores it; -1 until then
	to *int   // where it is handed over; nil: it is only needed meanwhile
}

// add notes an op whose result is a descriptor.
func (o *opened) add(p *program.Program, op program.Op, to *int) {
	d := descriptor{at: p.Space(8), to: to}
	binary.NativeEndian.PutUint64(d.at, ^uint64(0))
	op.Store(d.at)
	*o = append(*o, d)
}

// namespace opens the namespace of a kind that the process is in. dir is ns.OwnDir.
func (o *opened) namespace(b *builder, dir program.Op, kind uint64, to *int) {
	name := ns.File(kind)
	o.add(b.p, b.sys("openat", name, unix.SYS_OPENAT, result(dir), b.p.String(name), unix.O_RDONLY|unix.O_CLOEXEC), to)
}

// ownDir opens ns.OwnDir, which the process may not find later any more.
func (o *opened) ownDir(p *program.Program) program.Op {
	dir := p.Sys("openat", ns.OwnDir, unix.SYS_OPENAT, atCWD, p.String(ns.OwnDir), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC)
	o.add(p, dir, nil)
	return dir
}

// collect hands over what was opened, or, when the program has failed, closes it. It
// comes before the program is given back.
func (o opened) collect(err error) {
	for _, d := range o {
		switch fd := int(int64(binary.NativeEndian.Uint64(d.at))); {
		case fd < 0:
		case d.to != nil && err == nil:
			*d.to = fd
		default:
			sys.CloseAll(fd)
		}
	}
}
