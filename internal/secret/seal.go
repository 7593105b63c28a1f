package secret

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"lade/internal/errdefs"
	"lade/internal/linux/atomicfile"
	"lade/internal/linux/sys"
)

const keySize = 32 // bytes: AES-256

// aead returns what seals values. Errors: DataLoss when there are values and
// their key is missing or is none.
func (s *Store) aead() (cipher.AEAD, error) {
	s.keyMu.Lock()
	defer s.keyMu.Unlock()
	if s.sealer != nil {
		return s.sealer, nil
	}
	// Before the key is in memory: a dump must not have it either.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return nil, sys.Error("prctl", "PR_SET_DUMPABLE", err)
	}
	key, err := s.readKey()
	if errors.Is(err, fs.ErrNotExist) && !s.any() {
		key = make([]byte, keySize)
		rand.Read(key) // never fails: crypto/rand
		err = atomicfile.Write(s.keyFile, key, 0o600)
	}
	if err != nil {
		return nil, errdefs.DataLossf("secrets and configs cannot be opened: %w", err)
	}
	block, err := aes.NewCipher(key)
	clear(key)
	if err != nil {
		return nil, err
	}
	s.sealer, err = cipher.NewGCMWithRandomNonce(block)
	return s.sealer, err
}

// readKey reads the key, and refuses one that others could have read.
func (s *Store) readKey() ([]byte, error) {
	f, err := os.OpenFile(s.keyFile, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if mode := st.Mode(); !mode.IsRegular() || mode.Perm()&0o077 != 0 {
		return nil, errdefs.DataLossf("the key %s has mode %s: it must be a file of mode 0600", s.keyFile, mode)
	}
	key := make([]byte, keySize+1)
	n, err := f.Read(key)
	if err != nil || n != keySize {
		return nil, errdefs.DataLossf("the key %s does not have %d bytes", s.keyFile, keySize)
	}
	return key[:keySize], nil
}

// bound is what is authenticated with a value: where it belongs.
func bound(kind Kind, id string) []byte { return []byte("lade/" + string(kind) + "/" + id) }

// seal encrypts the value of an object.
func (s *Store) seal(kind Kind, id string, value []byte) ([]byte, error) {
	a, err := s.aead()
	if err != nil {
		return nil, err
	}
	return a.Seal(nil, nil, value, bound(kind, id)), nil
}

// open decrypts an object's value. Errors: DataLoss.
func (s *Store) open(o *Object) ([]byte, error) {
	a, err := s.aead()
	if err != nil {
		return nil, err
	}
	value, err := a.Open(nil, nil, o.Sealed, bound(o.Kind, o.ID))
	if err != nil {
		return nil, errdefs.DataLossf("the value of %s %s cannot be opened: it was changed, or sealed with another key", o.Kind, o.Name)
	}
	return value, nil
}
