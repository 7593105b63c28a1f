package content

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"lade/internal/digest"
	"lade/internal/errdefs"
	"lade/internal/failpoint"
	"lade/internal/linux/atomicfile"
)

// suffix ends the name of every ingest file.
const suffix = ".part"

// Ingest is a blob that was not received whole yet.
type Ingest struct {
	Key      string
	Offset   int64 // bytes received
	Modified time.Time
	Active   bool // a Writer holds it
}

// Writer receives one blob. It is for one goroutine. Exactly one of Commit,
// Close and Abort must end it; further calls of those do nothing.
type Writer struct {
	s      *Store
	key    string
	f      *os.File // nil once ended
	h      hash.Hash
	offset int64
	want   digest.Digest // "" when unknown
	size   int64         // bytes, -1 when unknown
}

// Writer begins to receive a blob, or continues the ingest of the same key:
// Offset tells how much is there. want and size are what the blob must turn
// out to be, "" and -1 when unknown. Continuing reads what is there, to hash
// it. A partial ingest that is longer than size is begun anew.
//
// The key is any text of 1 to 200 bytes, such as the digest. Errors: Conflict
// while another Writer holds the key, Invalid for a bad key or digest,
// Exhausted for a full disk.
func (s *Store) Writer(ctx context.Context, key string, want digest.Digest, size int64) (*Writer, error) {
	if want != "" {
		if _, err := digest.Parse(want.String()); err != nil {
			return nil, err
		}
	}
	name, err := s.hold(key)
	if err != nil {
		return nil, err
	}
	w := &Writer{s: s, key: key, h: sha256.New(), want: want, size: size}
	if err := w.open(ctx, name); err != nil {
		s.release(key)
		return nil, full(err)
	}
	return w, nil
}

// hold reserves key and returns the path of its ingest.
func (s *Store) hold(key string) (string, error) {
	if key == "" || len(key) > 200 {
		return "", errdefs.Invalidf("invalid ingest key %q", key)
	}
	name := url.PathEscape(key) + suffix
	if len(name) > 255 {
		return "", errdefs.Invalidf("invalid ingest key %q", key)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held[key] {
		return "", errdefs.Conflictf("content: the ingest %s is being written", key)
	}
	s.held[key] = true
	return filepath.Join(s.parts, name), nil
}

func (s *Store) release(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.held, key)
}

// open opens the ingest file and hashes what it holds.
func (w *Writer) open(ctx context.Context, name string) error {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	w.offset, err = io.Copy(w.h, Cancelable(ctx, f))
	if err == nil && w.size >= 0 && w.offset > w.size {
		w.h.Reset()
		w.offset = 0
		if err = f.Truncate(0); err == nil {
			_, err = f.Seek(0, io.SeekStart)
		}
	}
	if err != nil {
		if fi, statErr := f.Stat(); statErr == nil && fi.Size() == 0 { // nothing to go on with
			err = errors.Join(err, os.Remove(name))
		}
		return errors.Join(err, f.Close())
	}
	w.f = f
	return nil
}

// Offset returns how many bytes the ingest holds: where the next Write goes.
func (w *Writer) Offset() int64 { return w.offset }

// Write appends p. Errors: DataLoss when the blob becomes longer than its
// announced size, Exhausted for a full disk.
func (w *Writer) Write(p []byte) (int, error) {
	if w.f == nil {
		return 0, errdefs.Conflictf("content: the ingest %s has ended", w.key)
	}
	if w.size >= 0 && w.offset+int64(len(p)) > w.size {
		return 0, errdefs.DataLossf("content %s: more than the announced %d bytes", w.name(), w.size)
	}
	n, err := w.f.Write(p)
	w.h.Write(p[:n])
	w.offset += int64(n)
	return n, full(err)
}

// name returns what the blob is called in errors.
func (w *Writer) name() string {
	if w.want != "" {
		return w.want.String()
	}
	return w.key
}

// Commit makes the blob part of the store, durably, and returns its digest.
// Whatever happens the Writer has ended.
//
// Errors: DataLoss when length or digest differ from what was announced (the
// ingest is gone then, unless it is merely too short), Exhausted for a full
// disk, Conflict for a Writer that has ended.
func (w *Writer) Commit(ctx context.Context) (digest.Digest, error) {
	if w.f == nil {
		return "", errdefs.Conflictf("content: the ingest %s has ended", w.key)
	}
	if err := context.Cause(ctx); err != nil {
		return "", errors.Join(err, w.Close())
	}
	if w.size >= 0 && w.offset < w.size {
		err := errdefs.DataLossf("content %s: %d of %d bytes received", w.name(), w.offset, w.size)
		if cerr := w.Close(); cerr != nil {
			w.s.log.Warn("close an ingest", "key", w.key, "error", cerr)
		}
		return "", err
	}
	got := digest.FromHash(w.h)
	if w.want != "" && got != w.want {
		err := errdefs.DataLossf("content %s: the received blob has digest %s", w.want, got)
		if aerr := w.Abort(); aerr != nil {
			w.s.log.Warn("drop an ingest", "key", w.key, "error", aerr)
		}
		return "", err
	}
	defer w.s.release(w.key)
	f := w.f
	w.f = nil
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		// After a failed sync the page cache cannot be trusted to be what the
		// disk holds, so the ingest must not be continued.
		return "", full(errors.Join(err, os.Remove(f.Name())))
	}
	failpoint.Hit("content.commit")
	if err := os.Rename(f.Name(), filepath.Join(w.s.blobs, got.Hex())); err != nil {
		return "", full(err)
	}
	failpoint.Hit("content.committed")
	return got, atomicfile.SyncDir(w.s.blobs)
}

// Close ends the Writer and keeps the ingest, for a later Writer of the key.
func (w *Writer) Close() error {
	if w.f == nil {
		return nil
	}
	err := w.f.Close()
	w.f = nil
	w.s.release(w.key)
	return err
}

// Abort ends the Writer and deletes the ingest.
func (w *Writer) Abort() error {
	if w.f == nil {
		return nil
	}
	err := os.Remove(w.f.Name())
	return errors.Join(err, w.Close())
}

// WriteBlob stores b, durably, and returns its digest. It does nothing when
// the blob is there. Errors: Exhausted for a full disk.
func (s *Store) WriteBlob(ctx context.Context, b []byte) (digest.Digest, error) {
	d := digest.FromBytes(b)
	if n, err := s.Stat(d); err == nil && n == int64(len(b)) {
		return d, nil
	}
	w, err := s.Writer(ctx, "blob-"+rand.Text(), d, int64(len(b)))
	if err != nil {
		return "", err
	}
	if _, err := w.Write(b); err != nil {
		return "", errors.Join(err, w.Abort())
	}
	return w.Commit(ctx)
}

// Ingests returns what was not received whole, in no order.
func (s *Store) Ingests() ([]Ingest, error) {
	entries, err := os.ReadDir(s.parts)
	if err != nil {
		return nil, err
	}
	var out []Ingest
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), suffix)
		key, kerr := url.PathUnescape(name)
		if !ok || kerr != nil {
			continue // not ours
		}
		st, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // ended meanwhile
		}
		if err != nil {
			return nil, err
		}
		s.mu.Lock()
		active := s.held[key]
		s.mu.Unlock()
		out = append(out, Ingest{key, st.Size(), st.ModTime(), active})
	}
	return out, nil
}

// RemoveIngests deletes the ingests that nobody writes and that were last
// written before the given time; it returns how many bytes that freed.
func (s *Store) RemoveIngests(before time.Time) (int64, error) {
	all, err := s.Ingests()
	if err != nil {
		return 0, err
	}
	var freed int64
	for _, in := range all {
		if !in.Modified.Before(before) {
			continue
		}
		name, herr := s.hold(in.Key)
		if herr != nil {
			continue // a Writer took it
		}
		rerr := os.Remove(name)
		s.release(in.Key)
		if rerr == nil {
			freed += in.Offset
		} else if !errors.Is(rerr, fs.ErrNotExist) {
			err = errors.Join(err, rerr)
		}
	}
	return freed, err
}

// full gives the errors of a full disk their kind.
func full(err error) error {
	if atomicfile.Full(err) {
		return errdefs.Exhaustedf("content: %w", err)
	}
	return err
}
