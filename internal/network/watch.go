package network

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"lade/internal/linux/nft"
)

// watch makes the table anew whenever somebody removes it: "nft flush ruleset"
// is how firewalls reload. It ends when the monitor is closed.
func (f *firewall) watch(m *nft.Monitor) {
	for {
		gone := false
		err := m.Receive(func(table string) { gone = gone || table == f.table })
		switch {
		case errors.Is(err, os.ErrClosed):
			return
		case errors.Is(err, unix.ENOBUFS): // notifications were lost: perhaps ours
			gone = true
		case err != nil:
			f.log.Error("cannot watch nftables", "error", err)
			return
		}
		if !gone {
			continue
		}
		// Our own replacement removes the table, too, but puts it back in the
		// same transaction: repair looks first.
		if err := f.repair(); err != nil {
			f.log.Error("cannot make the nftables table anew", "table", f.table, "error", err)
		}
	}
}
