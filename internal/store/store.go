package store

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
	"golang.org/x/sys/unix"

	"lade/internal/failpoint"
)

const (
	// foldAt is the length at which a log is folded into bbolt.
	foldAt = 4 << 20
	// grow is the step in which a log is extended with zeroes ahead of its use:
	// overwriting written blocks makes fdatasync(2) one write to the device,
	// without a journal commit for the inode.
	grow = 1 << 20
	gap  = 1 << 20 // between the sequence numbers of two openings

	meta    = "meta"
	seqKey  = "sequence"
	dbName  = "records.db"
	logName = "log."
)

// changes are the newest values of keys; a nil value means deleted.
type changes map[Bucket]map[string][]byte

func (c changes) apply(ops []op) {
	for _, o := range ops {
		if c[o.bucket] == nil {
			c[o.bucket] = map[string][]byte{}
		}
		c[o.bucket][o.key] = o.value
	}
}

// Store is an open record store. The caller must Close it.
type Store struct {
	log *slog.Logger
	db  *bbolt.DB

	fold    sync.Mutex     // held while a log is folded
	folding sync.WaitGroup // the background fold

	sync   sync.Mutex // held during fdatasync
	synced uint64     // last durable frame, guarded by sync

	mu     sync.RWMutex
	failed error       // the error that poisoned the store
	logs   [2]*os.File // the active one is logs[active]
	active int
	offset int64   // where the next frame goes
	size   int64   // of the active log, zeroes included
	seq    uint64  // last frame written
	tail   changes // what the active log holds
	frozen changes // what the other log holds, while it is folded
}

// Open opens or creates the store in dir, which one process may have open at a
// time. Errors: Internal for a directory that is in use, or damaged.
func Open(dir string, log *slog.Logger) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	db, err := bbolt.Open(filepath.Join(dir, dbName), 0o600, &bbolt.Options{
		Timeout: 100 * time.Millisecond, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType,
	})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("record store %s is in use by another process", dir)
	}
	if err != nil {
		return nil, fmt.Errorf("record store %s: %w", dir, err)
	}
	s := &Store{log: log, db: db, tail: changes{}}
	if err := s.recover(dir); err != nil {
		return nil, errors.Join(fmt.Errorf("record store %s: %w", dir, err), s.closeFiles())
	}
	return s, nil
}

// recover reads both logs, folds what bbolt does not have, and starts afresh.
func (s *Store) recover(dir string) error {
	if err := s.db.View(func(tx *bbolt.Tx) error {
		if b := tx.Bucket([]byte(meta)); b != nil {
			if v := b.Get([]byte(seqKey)); len(v) == 8 {
				s.seq = binary.LittleEndian.Uint64(v)
			}
		}
		return nil
	}); err != nil {
		return err
	}
	var all []entry
	for i := range s.logs {
		f, err := os.OpenFile(filepath.Join(dir, fmt.Sprint(logName, i)), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return err
		}
		s.logs[i] = f
		entries, err := scan(f)
		if err != nil {
			return err
		}
		all = append(all, entries...)
	}
	slices.SortFunc(all, func(a, b entry) int { return cmp.Compare(a.seq, b.seq) })
	for _, e := range all {
		if e.seq == s.seq+1 {
			s.tail.apply(e.ops)
			s.seq = e.seq
		}
	}
	// A gap in the numbers: no frame that an earlier process left behind the
	// torn end of a log can continue the sequence of this one.
	s.seq += gap
	s.synced = s.seq
	if err := s.toDB(s.tail, s.seq); err != nil {
		return err
	}
	s.tail = changes{}
	return s.reset(s.logs[0])
}

// reset makes f the active log, empty. Its old frames need not be erased:
// their numbers do not continue the sequence.
func (s *Store) reset(f *os.File) error {
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	s.offset, s.size = 0, fi.Size()
	return s.reserve(1)
}

// reserve extends the active log with zeroes until n more bytes fit.
func (s *Store) reserve(n int64) error {
	if s.offset+n <= s.size {
		return nil
	}
	more := (s.offset + n - s.size + grow - 1) / grow * grow
	if _, err := s.logs[s.active].WriteAt(make([]byte, more), s.size); err != nil {
		return err
	}
	s.size += more
	return nil
}

// Append applies the batch atomically. It survives the death of the process at
// once, and of the machine from the next Commit of anybody on.
func (s *Store) Append(b *Batch) error {
	_, err := s.write(b)
	return err
}

// Commit applies the batch atomically and durably; it blocks for one
// fdatasync(2), shared with the commits that came meanwhile. ctx does not
// interrupt it: a write that was begun is finished.
func (s *Store) Commit(ctx context.Context, b *Batch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	seq, err := s.write(b)
	if err != nil {
		return err
	}
	return s.syncTo(seq)
}

func (s *Store) write(b *Batch) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return 0, s.failed
	}
	if len(b.ops) == 0 {
		return s.seq, nil
	}
	f := b.frame(s.seq + 1)
	err := s.reserve(int64(len(f)) + header)
	failpoint.Hit("store.write")
	if err == nil {
		_, err = s.logs[s.active].WriteAt(f, s.offset)
	}
	if err != nil {
		s.failed = fmt.Errorf("record store: write: %w", err)
		return 0, s.failed
	}
	failpoint.Hit("store.written")
	s.offset += int64(len(f))
	s.seq++
	s.tail.apply(b.ops)
	if s.offset >= foldAt && s.frozen == nil {
		s.turn()
	}
	return s.seq, nil
}

// turn makes the other log the active one and folds this one in the
// background. s.mu is held.
func (s *Store) turn() {
	old, seq, frozen := s.logs[s.active], s.seq, s.tail
	s.frozen, s.tail = frozen, changes{}
	s.active = 1 - s.active
	if err := s.reset(s.logs[s.active]); err != nil {
		s.failed = fmt.Errorf("record store: extend: %w", err)
		return
	}
	s.folding.Go(func() {
		s.fold.Lock()
		defer s.fold.Unlock()
		err := unix.Fdatasync(int(old.Fd())) // what bbolt will have must not be ahead of the log
		if err == nil {
			err = s.toDB(frozen, seq)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if err != nil {
			s.failed = fmt.Errorf("record store: fold: %w", err)
			s.log.Error("record store is read-only from now on", "error", err)
			return
		}
		s.frozen = nil
	})
}

// syncTo returns when frame seq is durable.
func (s *Store) syncTo(seq uint64) error {
	s.sync.Lock()
	defer s.sync.Unlock()
	if s.synced >= seq {
		return nil
	}
	s.mu.RLock()
	upTo, failed := s.seq, s.failed
	logs, other := s.logs, s.frozen != nil
	active := s.active
	s.mu.RUnlock()
	if failed != nil {
		return failed
	}
	err := unix.Fdatasync(int(logs[active].Fd()))
	if err == nil && other { // the frame may stand in the log that was just turned away
		err = unix.Fdatasync(int(logs[1-active].Fd()))
	}
	if err != nil {
		err = fmt.Errorf("record store: sync: %w", err)
		s.mu.Lock()
		s.failed = err
		s.mu.Unlock()
		return err
	}
	failpoint.Hit("store.synced")
	s.synced = upTo
	return nil
}

// toDB writes changes and their last sequence number into bbolt, durably.
func (s *Store) toDB(c changes, seq uint64) error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		for name, kv := range c {
			b, err := tx.CreateBucketIfNotExists([]byte(name))
			if err != nil {
				return err
			}
			for _, k := range slices.Sorted(maps.Keys(kv)) {
				if v := kv[k]; v == nil {
					err = b.Delete([]byte(k))
				} else {
					err = b.Put([]byte(k), v)
				}
				if err != nil {
					return err
				}
			}
		}
		b, err := tx.CreateBucketIfNotExists([]byte(meta))
		if err != nil {
			return err
		}
		return b.Put([]byte(seqKey), binary.LittleEndian.AppendUint64(nil, seq))
	})
}

// Get returns the value of a key. The caller must not change it.
func (s *Store) Get(bucket Bucket, key string) ([]byte, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, c := range []changes{s.tail, s.frozen} {
		if v, ok := c[bucket][key]; ok {
			return v, v != nil
		}
	}
	var out []byte
	_ = s.db.View(func(tx *bbolt.Tx) error { // View itself fails only when closed
		if b := tx.Bucket([]byte(bucket)); b != nil {
			out = slices.Clone(b.Get([]byte(key)))
		}
		return nil
	})
	return out, out != nil
}

// Walk yields the records of a bucket, in the order of their keys, as they
// were at one moment. The caller must not change the values.
func (s *Store) Walk(bucket Bucket) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		all := s.all(bucket)
		for _, k := range slices.Sorted(maps.Keys(all)) {
			if !yield(k, all[k]) {
				return
			}
		}
	}
}

func (s *Store) all(bucket Bucket) map[string][]byte {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := map[string][]byte{}
	_ = s.db.View(func(tx *bbolt.Tx) error { // View itself fails only when closed
		b := tx.Bucket([]byte(bucket))
		if b == nil {
			return nil
		}
		return b.ForEach(func(k, v []byte) error {
			all[string(k)] = slices.Clone(v)
			return nil
		})
	})
	for _, c := range []changes{s.frozen, s.tail} {
		for k, v := range c[bucket] {
			if v == nil {
				delete(all, k)
			} else {
				all[k] = v
			}
		}
	}
	return all
}

// Close makes everything durable, folds the log and closes the files.
func (s *Store) Close() error {
	s.folding.Wait()
	s.fold.Lock()
	defer s.fold.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.failed
	if err == nil {
		err = s.toDB(s.tail, s.seq)
	}
	if s.failed == nil {
		s.failed = errors.New("record store is closed")
	}
	return errors.Join(err, s.closeFiles())
}

func (s *Store) closeFiles() error {
	err := s.db.Close()
	for _, f := range s.logs {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return err
}
