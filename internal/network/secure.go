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

// ipsec is what the kernel encrypts for overlay networks: policies, which say what
// must be encrypted, and states, how. Both are of an address and a port, which
// several networks may share; mu orders their changes. A policy is there from before
// anything is sent until after the last network is gone, so that nothing ever leaves
// in the clear.
type ipsec struct {
	mu   sync.Mutex
	conn *xfrm.Conn // nil before the first encrypted network
}

// secure brings policies and states for the address and port of an encrypted
// overlay network to what all networks that share them need, the policies first.
// Who shares them is asked with mu held. Errors: NotImplemented where the kernel
// cannot encrypt.
func (i *ipsec) secure(a *across, sharing func() []*across) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.conn == nil {
		c, err := xfrm.Dial()
		if err != nil {
			return noESP(err)
		}
		i.conn = c
	}
	span := trace.Begin(trace.Net, "encrypt", a.device)
	return span.End(i.secureLocked(a, sharing()))
}

func (i *ipsec) secureLocked(a *across, sharing []*across) error {
	for _, p := range a.Policies() {
		if err := i.conn.SetPolicy(p); err != nil {
			return noESP(err)
		}
	}
	var peers []netip.Addr
	for _, u := range sharing {
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
	if err := i.dropStates(a, want); err != nil {
		return err
	}
	for _, s := range want {
		if err := i.conn.AddState(s); err != nil && !errors.Is(err, unix.EEXIST) {
			return noESP(err)
		}
	}
	return nil
}

// unsecure takes back what only a network that goes needs. Those that stay and share
// its address and port are asked for with mu held.
func (i *ipsec) unsecure(a *across, sharing func() []*across) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if a == nil || !a.Encrypted || i.conn == nil {
		return nil
	}
	if left := sharing(); len(left) > 0 {
		return i.secureLocked(left[0], left)
	}
	return errors.Join(i.dropStates(a, nil), i.dropPolicies(a))
}

// dropStates removes the states of an address and port except those that are
// wanted.
func (i *ipsec) dropStates(a *across, want []xfrm.State) error {
	now, err := i.conn.States(overlay.ReqID(a.Port))
	errs := []error{err}
	for _, s := range now {
		same := func(w xfrm.State) bool { return w.SPI == s.SPI && w.Src == s.Src && w.Dst == s.Dst }
		if s.Src != a.Local && s.Dst != a.Local || slices.ContainsFunc(want, same) {
			continue
		}
		if err := i.conn.DelState(s); !errors.Is(err, unix.ESRCH) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (i *ipsec) dropPolicies(a *across) error {
	var errs []error
	for _, p := range a.Policies() {
		if err := i.conn.DelPolicy(p); !errors.Is(err, unix.ENOENT) {
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
