// Command manpages writes the client's manual pages: make man.
package main

import (
	"flag"
	"fmt"
	"os"

	"lade/internal/cli"
)

func main() {
	dir := flag.String("o", "bin/man/man1", "directory of the pages")
	flag.Parse()
	err := os.MkdirAll(*dir, 0o755)
	n := 0
	if err == nil {
		n, err = cli.Manual(*dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "manpages:", err)
		os.Exit(1)
	}
	fmt.Printf("%d pages in %s\n", n, *dir)
}
