package seccomp

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the system call tables anew")

// TestTables compares the tables with those of golang.org/x/sys, which are
// made from the kernel's headers; -update writes them.
func TestTables(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", "{{.Dir}}", "golang.org/x/sys/unix").Output()
	if err != nil {
		t.Skip("no go command or module cache: ", err)
	}
	dir := strings.TrimSpace(string(out))
	line := regexp.MustCompile(`(?m)^\s+SYS_(\w+)\s+=\s+(\d+)$`)
	var file strings.Builder
	file.WriteString("package seccomp\n\n// System call names in the order of their numbers; a number says where the next\n// name stands. Made from golang.org/x/sys by go test -run TestTables -update.\n")
	for _, a := range []struct{ goarch, name, have string }{
		{"amd64", "tableAMD64", tableAMD64}, {"386", "table386", table386}, {"arm64", "tableARM64", tableARM64}, {"arm", "tableARM", tableARM},
	} {
		src, err := os.ReadFile(filepath.Join(dir, "zsysnum_linux_"+a.goarch+".go"))
		if err != nil {
			t.Fatal(err)
		}
		want := map[int]string{}
		for _, m := range line.FindAllStringSubmatch(string(src), -1) {
			nr, err := strconv.Atoi(m[2])
			if err != nil {
				t.Fatal(err)
			}
			name := strings.ToLower(m[1])
			if name == "syscall_mask" || name == "arch_specific_syscall" {
				continue // not calls
			}
			if old := want[nr]; old != "" {
				t.Errorf("%s: %d is %s and %s", a.goarch, nr, old, name)
			}
			want[nr] = name
		}
		var words []string
		expect := -1
		for _, nr := range slices.Sorted(maps.Keys(want)) {
			if nr != expect {
				words = append(words, strconv.Itoa(nr))
			}
			words = append(words, want[nr])
			expect = nr + 1
		}
		if text := strings.Join(words, " "); text != strings.Join(strings.Fields(a.have), " ") {
			if !*update {
				t.Errorf("%s differs from golang.org/x/sys; run with -update", a.name)
			}
			fmt.Fprintf(&file, "\nconst %s = `", a.name)
			width := 0
			for _, w := range words {
				if width+len(w) > 110 {
					file.WriteString("\n")
					width = 0
				} else if width > 0 {
					file.WriteString(" ")
				}
				file.WriteString(w)
				width += len(w) + 1
			}
			file.WriteString("`\n")
		}
	}
	if *update && strings.Contains(file.String(), "const") {
		if err := os.WriteFile("table.go", []byte(file.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
