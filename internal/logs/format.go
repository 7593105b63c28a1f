package logs

import "os"

// Format is the form of a log's files.
type Format string

const (
	// FormatJSON is that of Docker's driver json-file.
	FormatJSON Format = ""
	// FormatLocal is that of Docker's driver local.
	FormatLocal Format = "local"
)

func (f Format) encoder(attrs map[string]string) (encoder, error) {
	if f == FormatLocal {
		return localEncoder{}, nil
	}
	raw, err := encodeAttrs(attrs)
	return jsonEncoder{raw}, err
}

// tail returns where the last want messages of a file begin, and how many there
// are (at most want).
func (f Format) tail(file *os.File, want int) (at int64, n int, err error) {
	if f == FormatLocal {
		return tailLocal(file, want)
	}
	return tailOffset(file, want)
}

// read decodes one record, without what separates it from others; ok is false
// if it is corrupt.
func (d *decoder) read(f Format, record []byte) (m Message, ok bool) {
	if f == FormatLocal {
		return d.local(record)
	}
	return d.decode(record)
}
