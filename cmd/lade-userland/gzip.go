package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/klauspost/compress/gzip"
)

// gzipFiles is gzip(1): -c to standard output, -d decompresses, -k keeps the
// source; without files it filters.
func gzipFiles(args []string) int { return gz("gzip", args, false) }

func gunzip(args []string) int { return gz("gunzip", args, true) }

func zcat(args []string) int { return gz("zcat", append([]string{"-c"}, args...), true) }

func gz(name string, args []string, unpack bool) int {
	set, files, err := options(args, "cdfkvn123456789")
	if err != nil {
		return fail(name, err)
	}
	_, d := set['d']
	_, toStdout := set['c']
	_, keep := set['k']
	return each(name, files, func(file string, r io.Reader) error {
		if file == "-" || toStdout {
			return convert(os.Stdout, r, unpack || d)
		}
		to := file + ".gz"
		if unpack || d {
			var ok bool
			if to, ok = strings.CutSuffix(file, ".gz"); !ok {
				return fmt.Errorf("%s: unknown suffix", file)
			}
		}
		w, err := os.Create(to)
		if err != nil {
			return err
		}
		if err := errors.Join(convert(w, r, unpack || d), w.Close()); err != nil || keep {
			return err
		}
		return os.Remove(file)
	})
}

func convert(w io.Writer, r io.Reader, unpack bool) error {
	if unpack {
		z, err := gzip.NewReader(r)
		if err != nil {
			return err
		}
		_, err = io.Copy(w, z)
		return err
	}
	z := gzip.NewWriter(w)
	if _, err := io.Copy(z, r); err != nil {
		return err
	}
	return z.Close()
}
