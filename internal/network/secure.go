package network

import (
	"errors"
	"net/netip"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/xfrm"
	"lade/internal/network/overlay"
	"lade/internal/trace"
)

// ipsec orders the changes of what the kernel encrypts.
type ipsec struct {
	mu   sync.Mutex
	conn *xfrm.Conn // nil before the first encrypted network
}

// secure brings policies and states for the address and port of an encrypted
// overlay network to what all networks there need: the policies first, so that
// there is no moment at which anything leaves in the clear.
func (n *Networks) secure(a *across) error {
	n.ipsec.mu.Lock()
	defer n.ipsec.mu.Unlock()
	if n.ipsec.conn == nil {
		c, err := xfrm.Dial()
		if err != nil {
			return noESP(err)
		}
		n.ipsec.conn = c
	}
	span := trace.Begin(trace.Net, "encrypt", a.device)
	return span.End(n.secureLocked(a))
}

func (n *Networks) secureLocked(a *across) error {
	for _, p := range a.Policies() {
		if err := n.ipsec.conn.SetPolicy(p); err != nil {
			return noESP(err)
		}
	}
	var peers []netip.Addr
	for _, u := range n.sharing(a) {
		hosts, known := u.peers()
		if !known { // what the kernel has is right until somebody knows better
			return nil
		}
		peers = append(peers, hosts...)
	}
	key, err := overlay.ReadKey(a.Key)
	if err != nil {
		return err
	}
	var want []xfrm.State
	for _, p := range peers {
		both, err := a.States(key, p)
		if err != nil {
			return err
		}
		want = append(want, both...)
	}
	if err := n.dropStates(a, want); err != nil {
		return err
	}
	for _, s := range want {
		if err := n.ipsec.conn.AddState(s); err != nil && !errors.Is(err, unix.EEXIST) {
			return noESP(err)
		}
	}
	return nil
}

// unsecure takes back what only a network that goes needs; left are those that
// stay and share its address and port.
func (n *Networks) unsecure(a *across, left []*across) error {
	n.ipsec.mu.Lock()
	defer n.ipsec.mu.Unlock()
	switch {
	case a == nil || !a.Encrypted || n.ipsec.conn == nil:
		return nil
	case len(left) > 0:
		return n.secureLocked(left[0])
	}
	return errors.Join(n.dropStates(a, nil), n.dropPolicies(a))
}

// sharing returns the encrypted networks with the address and port of one.
func (n *Networks) sharing(a *across) (out []*across) {
	if a == nil {
		return nil
	}
	for _, b := range n.allBridges() {
		if o := b.across; o != nil && o.Encrypted && o.Local == a.Local && o.Port == a.Port {
			out = append(out, o)
		}
	}
	return out
}

// dropStates removes the states of an address and port except those that are
// wanted.
func (n *Networks) dropStates(a *across, want []xfrm.State) error {
	now, err := n.ipsec.conn.States(overlay.ReqID(a.Port))
	errs := []error{err}
	for _, s := range now {
		same := func(w xfrm.State) bool { return w.SPI == s.SPI && w.Src == s.Src && w.Dst == s.Dst }
		if s.Src != a.Local && s.Dst != a.Local || slices.ContainsFunc(want, same) {
			continue
		}
		if err := n.ipsec.conn.DelState(s); !errors.Is(err, unix.ESRCH) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (n *Networks) dropPolicies(a *across) error {
	var errs []error
	for _, p := range a.Policies() {
		if err := n.ipsec.conn.DelPolicy(p); !errors.Is(err, unix.ENOENT) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// close forgets the socket; what the kernel encrypts it goes on to encrypt.
func (i *ipsec) close() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.conn == nil {
		return nil
	}
	return i.conn.Close()
}

// noESP says what a kernel lacks that refuses states or policies.
func noESP(err error) error {
	if errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EAFNOSUPPORT) {
		return errdefs.NotImplementedf("the kernel cannot encrypt an overlay network: it needs ESP with AES-CBC and HMAC-SHA256 (CONFIG_XFRM_USER, CONFIG_INET_ESP, CONFIG_CRYPTO_AUTHENC): %w", err)
	}
	return err
}
