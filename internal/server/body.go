package server

import (
	"io"
	"mime"
	"net/http"
	"time"
)

const (
	// jsonLimit is the largest JSON that is read: more than a kernel takes as
	// arguments and environment of a process.
	jsonLimit = 16 << 20
	// jsonTime is how long a client may take to send it.
	jsonTime = time.Minute
)

// bounded bounds the body of a request that is JSON, in size and in time: it is
// kept in memory until it is whole. Archives are streams and have no bound.
func bounded(w http.ResponseWriter, r *http.Request) {
	if r.Body == nil || r.ContentLength == 0 {
		return
	}
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return
	}
	r.Body = &timedBody{
		ReadCloser: http.MaxBytesReader(w, r.Body, jsonLimit),
		conn:       http.NewResponseController(w),
	}
}

// timedBody is a body that must have come jsonTime after the first read. The
// deadline is the connection's: it is taken back at the end of the body, for
// what the client sends then it may send at leisure.
type timedBody struct {
	io.ReadCloser
	conn  *http.ResponseController
	began bool
}

// Read reads a part.
func (b *timedBody) Read(p []byte) (int, error) {
	if !b.began {
		b.began = true
		b.deadline(time.Now().Add(jsonTime))
	}
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		b.deadline(time.Time{})
	}
	return n, err
}

// deadline sets the deadline of a connection that has one.
func (b *timedBody) deadline(t time.Time) {
	_ = b.conn.SetReadDeadline(t) // not supported: by recorders of tests
}
