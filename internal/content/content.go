package content

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"lade/internal/digest"
	"lade/internal/errdefs"
	"lade/internal/linux/atomicfile"
)

// Info is what Walk knows of a blob.
type Info struct {
	Digest   digest.Digest
	Size     int64 // bytes
	Modified time.Time
}

// Store is a directory of blobs.
type Store struct {
	log   *slog.Logger
	blobs string // directory of whole blobs
	parts string // directory of ingests

	mu   sync.Mutex
	held map[string]bool // keys that have a Writer; guarded by mu
}

// Open opens the store in dir, which is created if it is not there.
func Open(dir string, log *slog.Logger) (*Store, error) {
	s := &Store{
		log:   log,
		blobs: filepath.Join(dir, "blobs", "sha256"),
		parts: filepath.Join(dir, "ingest"),
		held:  make(map[string]bool),
	}
	for _, d := range []string{s.blobs, s.parts} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, err
		}
	}
	for _, d := range []string{filepath.Dir(s.blobs), dir, filepath.Dir(dir)} {
		if err := atomicfile.SyncDir(d); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// path returns where the blob d is or would be. Only a well-formed digest has
// a path, so that no digest can name a file elsewhere.
func (s *Store) path(d digest.Digest) (string, error) {
	if _, err := digest.Parse(d.String()); err != nil {
		return "", err
	}
	return filepath.Join(s.blobs, d.Hex()), nil
}

// Reader opens a blob and returns it with its length in bytes. The caller must
// Close the file. Errors: NotFound, Invalid for a malformed digest.
func (s *Store) Reader(d digest.Digest) (*os.File, int64, error) {
	p, err := s.path(d)
	if err != nil {
		return nil, 0, err
	}
	f, err := os.Open(p)
	if err != nil {
		return nil, 0, missing(d, err)
	}
	st, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, st.Size(), nil
}

// Stat returns the length of a blob in bytes. Errors: NotFound, Invalid for a
// malformed digest.
func (s *Store) Stat(d digest.Digest) (int64, error) {
	p, err := s.path(d)
	if err != nil {
		return 0, err
	}
	st, err := os.Lstat(p)
	if err != nil {
		return 0, missing(d, err)
	}
	return st.Size(), nil
}

// Delete removes a blob. It is not durable: after a power cut the blob may be
// back, and garbage collection meets it again. Errors: NotFound, Invalid for a
// malformed digest.
func (s *Store) Delete(d digest.Digest) error {
	p, err := s.path(d)
	if err != nil {
		return err
	}
	if err := os.Remove(p); err != nil {
		return missing(d, err)
	}
	return nil
}

// missing classifies the failure to open or remove a blob: its name is the
// digest that the caller asked for, so that a missing file is a missing blob.
func missing(d digest.Digest, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return errdefs.NotFoundf("content %s: not found", d)
	}
	return err
}

// Walk yields every blob, in no order. Blobs added or removed meanwhile may be
// missed. An error is yielded once and ends the walk.
func (s *Store) Walk() iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		dir, err := os.Open(s.blobs)
		if err != nil {
			yield(Info{}, err)
			return
		}
		defer dir.Close()
		for {
			entries, err := dir.ReadDir(256)
			for _, e := range entries {
				d, perr := digest.Parse("sha256:" + e.Name())
				if perr != nil {
					continue // not ours
				}
				st, serr := e.Info()
				if errors.Is(serr, fs.ErrNotExist) {
					continue // deleted meanwhile
				}
				if serr != nil {
					yield(Info{}, serr)
					return
				}
				if !yield(Info{d, st.Size(), st.ModTime()}, nil) {
					return
				}
			}
			if err == io.EOF {
				return
			}
			if err != nil {
				yield(Info{}, err)
				return
			}
		}
	}
}

// Verify reads a blob and compares it with its digest. Errors: DataLoss for
// content that changed, NotFound, Invalid, and the context's.
func (s *Store) Verify(ctx context.Context, d digest.Digest) error {
	f, size, err := s.Reader(d)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, Cancelable(ctx, f))
	if err != nil {
		return err
	}
	if got := digest.FromHash(h); got != d || n != size {
		return errdefs.DataLossf("content %s: the stored blob has digest %s", d, got)
	}
	return nil
}

// Cancelable returns a reader of r that fails with the cause once ctx has ended. A
// read that is under way is not ended.
func Cancelable(ctx context.Context, r io.Reader) io.Reader { return cancelable{ctx, r} }

type cancelable struct {
	ctx context.Context
	r   io.Reader
}

func (c cancelable) Read(p []byte) (int, error) {
	if err := context.Cause(c.ctx); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
