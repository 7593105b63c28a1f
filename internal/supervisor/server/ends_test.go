package server

import (
	"testing"

	"lade/internal/supervisor/wire"
)

// BenchmarkPipes makes the pipes of a container's start, and those of an exec,
// of which it does not hold both ends.
func BenchmarkPipes(b *testing.B) {
	for name, keep := range map[string]bool{"start": true, "exec": false} {
		b.Run(name, func(b *testing.B) {
			c := &container{oomfd: -1}
			for b.Loop() {
				l := &launch{p: newProcess(c, "", wire.Stdio{}, false), theirs: [3]int{-1, -1, -1}, netns: -1, user: -1}
				if err := l.pipes(false, true, true); err != nil {
					b.Fatal(err)
				}
				if keep {
					if err := l.keepEnds(wire.Stdio{}); err != nil {
						b.Fatal(err)
					}
				}
				l.closeTheirs()
				closeFDs(l.p.out.fd, l.p.err.fd)
			}
		})
	}
}
