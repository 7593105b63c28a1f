package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

func status(n int) command { return func([]string) int { return n } }

// echo prints its arguments; -n without a newline, -e with escapes.
func echo(args []string) int {
	end, escapes := "\n", false
	for len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' && strings.Trim(args[0][1:], "neE") == "" {
		if strings.Contains(args[0], "n") {
			end = ""
		}
		escapes = strings.Contains(args[0], "e") || escapes
		args = args[1:]
	}
	text := strings.Join(args, " ")
	if escapes {
		text = strings.NewReplacer(`\\`, `\`, `\n`, "\n", `\t`, "\t", `\r`, "\r", `\a`, "\a", `\b`, "\b", `\e`, "\x1b").Replace(text)
	}
	return written("echo", text+end)
}

func written(name, text string) int {
	if _, err := io.WriteString(os.Stdout, text); err != nil {
		if errors.Is(err, syscall.EPIPE) {
			return 128 + int(syscall.SIGPIPE)
		}
		return fail(name, err)
	}
	return 0
}

// each opens the named files, standard input for none or "-", one after the other.
func each(name string, files []string, use func(file string, r io.Reader) error) int {
	if len(files) == 0 {
		files = []string{"-"}
	}
	code := 0
	for _, f := range files {
		r := os.Stdin
		if f != "-" {
			opened, err := os.Open(f)
			if err != nil {
				code = fail(name, err)
				continue
			}
			r = opened
		}
		err := use(f, r)
		if f != "-" {
			err = errors.Join(err, r.Close())
		}
		if errors.Is(err, syscall.EPIPE) {
			return 128 + int(syscall.SIGPIPE)
		}
		if err != nil {
			code = fail(name, err)
		}
	}
	return code
}

// lines calls use for every line, without its end, until it returns false.
func lines(r io.Reader, use func(string) bool) error {
	br := bufio.NewReaderSize(r, 64<<10)
	for {
		line, err := br.ReadString('\n')
		if line != "" && !use(strings.TrimSuffix(line, "\n")) {
			return nil
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func basename(args []string) int {
	if len(args) == 0 {
		return fail("basename", errors.New("missing operand"))
	}
	b := filepath.Base(args[0])
	if len(args) > 1 && b != args[1] {
		b = strings.TrimSuffix(b, args[1])
	}
	return written("basename", b+"\n")
}

func dirname(args []string) int {
	if len(args) == 0 {
		return fail("dirname", errors.New("missing operand"))
	}
	return written("dirname", filepath.Dir(strings.TrimRight(args[0], "/"))+"\n")
}

// lineCount reads -n N, -N and -c N of head and tail.
func lineCount(args []string) (n int64, bytes, follow, fromStart bool, rest []string, err error) {
	for i, a := range args {
		if len(a) > 1 && a[0] == '-' && strings.Trim(a[1:], "0123456789") == "" {
			args = slices.Concat(args[:i], []string{"-n", a[1:]}, args[i+1:])
			break
		}
	}
	set, rest, err := options(args, "n:c:qvfF")
	n = 10
	_, f1 := set['f']
	_, f2 := set['F']
	v, ok := set['n']
	if c, isBytes := set['c']; isBytes {
		v, ok, bytes = c, true, true
	}
	if err == nil && ok {
		fromStart = strings.HasPrefix(v, "+")
		n, err = strconv.ParseInt(strings.TrimPrefix(v, "+"), 10, 64)
		if n < 0 {
			n = -n
		}
	}
	return n, bytes, f1 || f2, fromStart, rest, err
}

func head(args []string) int {
	n, byBytes, _, _, files, err := lineCount(args)
	if err != nil {
		return fail("head", err)
	}
	return each("head", files, func(_ string, r io.Reader) error {
		if byBytes {
			_, err := io.Copy(os.Stdout, io.LimitReader(r, n))
			return err
		}
		left := n
		var werr error
		err := lines(r, func(l string) bool {
			if left == 0 {
				return false
			}
			left--
			_, werr = fmt.Println(l)
			return werr == nil && left > 0
		})
		return errors.Join(err, werr)
	})
}

func tail(args []string) int {
	n, byBytes, follow, fromStart, files, err := lineCount(args)
	if err != nil {
		return fail("tail", err)
	}
	return each("tail", files, func(_ string, r io.Reader) error {
		switch {
		case byBytes:
			b, err := io.ReadAll(r)
			if err != nil {
				return err
			}
			at := max(0, int64(len(b))-n)
			if fromStart {
				at = min(int64(len(b)), max(0, n-1))
			}
			if _, err := os.Stdout.Write(b[at:]); err != nil {
				return err
			}
		case fromStart:
			line := int64(0)
			if err := lines(r, func(l string) bool {
				if line++; line >= n {
					fmt.Println(l)
				}
				return true
			}); err != nil {
				return err
			}
		default:
			var last []string
			if err := lines(r, func(l string) bool {
				last = append(last, l)
				if int64(len(last)) > n {
					last = last[1:]
				}
				return true
			}); err != nil {
				return err
			}
			for _, l := range last {
				fmt.Println(l)
			}
		}
		for follow {
			if _, err := io.Copy(os.Stdout, r); err != nil {
				return err
			}
			pause(200)
		}
		return nil
	})
}

func wc(args []string) int {
	set, files, err := options(args, "lwcm")
	if err != nil {
		return fail("wc", err)
	}
	show := func(n [3]int64, file string) {
		var fields []string
		for i, c := range []byte{'l', 'w', 'c'} {
			if _, ok := set[c]; ok || len(set) == 0 {
				fields = append(fields, strconv.FormatInt(n[i], 10))
			}
		}
		if file != "-" && file != "" {
			fields = append(fields, file)
		}
		fmt.Println(strings.Join(fields, " "))
	}
	var total [3]int64
	code := each("wc", files, func(file string, r io.Reader) error {
		var n [3]int64
		br := bufio.NewReader(r)
		inWord := false
		for {
			c, err := br.ReadByte()
			if err == io.EOF {
				break
			}
			if err != nil {
				return err
			}
			n[2]++
			if c == '\n' {
				n[0]++
			}
			blank := bytes.IndexByte([]byte(" \t\n\r\v\f"), c) >= 0
			if inWord = !blank && (inWord || func() bool { n[1]++; return true }()); blank {
				inWord = false
			}
		}
		for i := range n {
			total[i] += n[i]
		}
		show(n, file)
		return nil
	})
	if len(files) > 1 {
		show(total, "total")
	}
	return code
}

// grep is grep(1) with Go's regular expressions, which are nearly extended ones.
func grep(args []string) int {
	set, rest, err := options(args, "ivncqrRlLoEFwxhHse:m:A:B:C:")
	if err != nil {
		fail("grep", err)
		return 2
	}
	has := func(c byte) bool { _, ok := set[c]; return ok }
	pattern := set['e']
	if !has('e') {
		if len(rest) == 0 {
			fail("grep", errors.New("no pattern"))
			return 2
		}
		pattern, rest = rest[0], rest[1:]
	}
	re, err := grepPattern(pattern, has)
	if err != nil {
		fail("grep", err)
		return 2
	}
	if has('r') || has('R') {
		rest = walk(rest)
	}
	found := false
	withName := (len(rest) > 1 || has('r') || has('R') || has('H')) && !has('h')
	code := each("grep", rest, func(file string, r io.Reader) error {
		n, count := 0, 0
		prefix := ""
		if withName {
			prefix = file + ":"
		}
		err := lines(r, func(l string) bool {
			n++
			if re.MatchString(l) == has('v') {
				return true
			}
			found = true
			count++
			if has('q') || has('l') {
				return false
			}
			if has('c') {
				return true
			}
			at := prefix
			if has('n') {
				at += strconv.Itoa(n) + ":"
			}
			if has('o') && !has('v') {
				for _, m := range re.FindAllString(l, -1) {
					fmt.Println(at + m)
				}
				return true
			}
			fmt.Println(at + l)
			return true
		})
		if has('c') {
			fmt.Println(prefix + strconv.Itoa(count))
		}
		if has('l') && count > 0 {
			fmt.Println(file)
		}
		return err
	})
	switch {
	case found && (code == 0 || has('q')):
		return 0
	case code != 0:
		return 2
	}
	return 1
}

func grepPattern(p string, has func(byte) bool) (*regexp.Regexp, error) {
	switch {
	case has('F'):
		p = regexp.QuoteMeta(p)
	case !has('E'):
		// A basic expression: groups and the like are written with a backslash.
		var b strings.Builder
		for i := 0; i < len(p); i++ {
			switch {
			case p[i] == '\\' && i+1 < len(p) && strings.IndexByte("(){}|+?", p[i+1]) >= 0:
				i++
				b.WriteByte(p[i])
			case p[i] == '\\' && i+1 < len(p):
				b.WriteString(p[i : i+2])
				i++
			case strings.IndexByte("(){}|+?", p[i]) >= 0:
				b.WriteString(`\` + p[i:i+1])
			default:
				b.WriteByte(p[i])
			}
		}
		p = b.String()
	}
	p = strings.ReplaceAll(p, "\n", "|")
	if has('w') {
		p = `\b(?:` + p + `)\b`
	}
	if has('x') {
		p = `^(?:` + p + `)$`
	}
	if has('i') {
		p = "(?i)" + p
	}
	return regexp.Compile(p)
}

// walk returns all regular files below the given ones.
func walk(roots []string) []string {
	if len(roots) == 0 {
		roots = []string{"."}
	}
	var out []string
	for _, root := range roots {
		err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				fail("grep", err)
				return nil
			}
			if d.Type().IsRegular() {
				out = append(out, p)
			}
			return nil
		})
		if err != nil {
			fail("grep", err)
		}
	}
	return out
}

func sortLines(args []string) int {
	set, files, err := options(args, "rnufk:t:")
	if err != nil {
		return fail("sort", err)
	}
	has := func(c byte) bool { _, ok := set[c]; return ok }
	field, err := strconv.Atoi(strings.TrimRight(strings.Split(set['k']+",", ",")[0], "nr"))
	if has('k') && err != nil {
		return fail("sort", err)
	}
	key := func(s string) string {
		if field > 0 {
			parts := strings.Fields(s)
			if has('t') {
				parts = strings.Split(s, set['t'])
			}
			if field > len(parts) {
				return ""
			}
			s = parts[field-1]
		}
		if has('f') {
			s = strings.ToLower(s)
		}
		return s
	}
	numeric := has('n') || strings.Contains(set['k'], "n")
	compare := func(a, b string) int {
		c := 0
		if numeric {
			c = int(min(1, max(-1, number(key(a))-number(key(b)))))
			if d := number(key(a)) - number(key(b)); c == 0 && d != 0 {
				c = 1
				if d < 0 {
					c = -1
				}
			}
		}
		if c == 0 {
			c = strings.Compare(key(a), key(b))
		}
		if has('r') {
			c = -c
		}
		return c
	}
	var all []string
	code := each("sort", files, func(_ string, r io.Reader) error {
		return lines(r, func(l string) bool { all = append(all, l); return true })
	})
	slices.SortStableFunc(all, compare)
	if has('u') {
		all = slices.CompactFunc(all, func(a, b string) bool { return compare(a, b) == 0 })
	}
	w := bufio.NewWriter(os.Stdout)
	for _, l := range all {
		w.WriteString(l + "\n")
	}
	if err := w.Flush(); err != nil {
		return fail("sort", err)
	}
	return code
}

// number returns the number at the start of s, 0 for none.
func number(s string) float64 {
	s = strings.TrimSpace(s)
	end := 0
	for end < len(s) && strings.IndexByte("+-.0123456789", s[end]) >= 0 {
		end++
	}
	f, err := strconv.ParseFloat(s[:end], 64)
	if err != nil {
		return 0
	}
	return f
}

func uniq(args []string) int {
	set, files, err := options(args, "cdu")
	if err != nil {
		return fail("uniq", err)
	}
	show := func(l string, n int) {
		_, d := set['d']
		_, u := set['u']
		if n == 0 || d && n < 2 || u && n > 1 {
			return
		}
		if _, ok := set['c']; ok {
			fmt.Printf("%7d ", n)
		}
		fmt.Println(l)
	}
	return each("uniq", files, func(_ string, r io.Reader) error {
		last, n := "", 0
		err := lines(r, func(l string) bool {
			if n > 0 && l != last {
				show(last, n)
				n = 0
			}
			last = l
			n++
			return true
		})
		show(last, n)
		return err
	})
}

// ranges reads a list such as "1,3-5,7-".
func ranges(s string) (func(int) bool, error) {
	type span struct{ from, to int }
	var all []span
	for part := range strings.SplitSeq(s, ",") {
		from, to, isRange := strings.Cut(part, "-")
		sp := span{1, 1 << 30}
		var err error
		if from != "" {
			if sp.from, err = strconv.Atoi(from); err != nil {
				return nil, err
			}
		}
		if !isRange {
			sp.to = sp.from
		} else if to != "" {
			if sp.to, err = strconv.Atoi(to); err != nil {
				return nil, err
			}
		}
		all = append(all, sp)
	}
	return func(n int) bool {
		return slices.ContainsFunc(all, func(s span) bool { return s.from <= n && n <= s.to })
	}, nil
}

func cut(args []string) int {
	set, files, err := options(args, "d:f:c:b:s")
	if err != nil {
		return fail("cut", err)
	}
	by, sep := set['f'], "\t"
	if d, ok := set['d']; ok {
		sep = d
	}
	if c := set['c'] + set['b']; c != "" {
		by, sep = c, ""
	}
	wanted, err := ranges(by)
	if err != nil {
		return fail("cut", err)
	}
	return each("cut", files, func(_ string, r io.Reader) error {
		return lines(r, func(l string) bool {
			if sep != "" && !strings.Contains(l, sep) {
				if _, ok := set['s']; !ok {
					fmt.Println(l)
				}
				return true
			}
			var out []string
			for i, part := range strings.Split(l, sep) {
				if wanted(i + 1) {
					out = append(out, part)
				}
			}
			fmt.Println(strings.Join(out, sep))
			return true
		})
	})
}

// set1 expands the sets of tr: ranges, classes and escapes.
func set1(s string) []byte {
	s = strings.NewReplacer("[:lower:]", "a-z", "[:upper:]", "A-Z", "[:digit:]", "0-9", "[:alpha:]", "A-Za-z",
		"[:alnum:]", "A-Za-z0-9", "[:space:]", " \t\n\r\v\f", `\n`, "\n", `\t`, "\t", `\0`, "\x00", `\\`, `\`).Replace(s)
	var out []byte
	for i := 0; i < len(s); i++ {
		if i+2 < len(s) && s[i+1] == '-' && s[i] <= s[i+2] {
			for c := int(s[i]); c <= int(s[i+2]); c++ {
				out = append(out, byte(c))
			}
			i += 2
			continue
		}
		out = append(out, s[i])
	}
	return out
}

func tr(args []string) int {
	opts, rest, err := options(args, "dsc")
	if err != nil || len(rest) == 0 {
		return fail("tr", errors.Join(err, errors.New("usage: tr [-cds] SET1 [SET2]")))
	}
	_, del := opts['d']
	_, squeeze := opts['s']
	_, complement := opts['c']
	from := set1(rest[0])
	var to []byte
	if len(rest) > 1 {
		to = set1(rest[1])
	}
	w := bufio.NewWriter(os.Stdout)
	r := bufio.NewReader(os.Stdin)
	last := -1
	for {
		c, err := r.ReadByte()
		if err != nil {
			break
		}
		i := bytes.IndexByte(from, c)
		if complement {
			if i >= 0 {
				i = -1
			} else {
				i = len(from)
			}
		}
		if i >= 0 && del {
			continue
		}
		out := c
		if i >= 0 && len(to) > 0 {
			out = to[min(i, len(to)-1)]
		}
		if i >= 0 && squeeze && last == int(out) {
			continue
		}
		last = int(out)
		if err := w.WriteByte(out); err != nil {
			return fail("tr", err)
		}
	}
	if err := w.Flush(); err != nil {
		return fail("tr", err)
	}
	return 0
}

func tee(args []string) int {
	set, files, err := options(args, "ai")
	if err != nil {
		return fail("tee", err)
	}
	out := []io.Writer{os.Stdout}
	mode := os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	if _, ok := set['a']; ok {
		mode = os.O_WRONLY | os.O_CREATE | os.O_APPEND
	}
	for _, name := range files {
		f, err := os.OpenFile(name, mode, 0o666)
		if err != nil {
			return fail("tee", err)
		}
		defer f.Close()
		out = append(out, f)
	}
	if _, err := io.Copy(io.MultiWriter(out...), os.Stdin); err != nil {
		return fail("tee", err)
	}
	return 0
}

func seq(args []string) int {
	n := []float64{}
	for _, a := range args {
		f, err := strconv.ParseFloat(a, 64)
		if err != nil {
			return fail("seq", err)
		}
		n = append(n, f)
	}
	from, step, to := 1.0, 1.0, 0.0
	switch len(n) {
	case 1:
		to = n[0]
	case 2:
		from, to = n[0], n[1]
	case 3:
		from, step, to = n[0], n[1], n[2]
	default:
		return fail("seq", errors.New("usage: seq [FIRST [STEP]] LAST"))
	}
	if step == 0 {
		return fail("seq", errors.New("the step is 0"))
	}
	w := bufio.NewWriter(os.Stdout)
	for i := 0; ; i++ {
		v := from + float64(i)*step
		if step > 0 && v > to || step < 0 && v < to {
			break
		}
		if _, err := w.WriteString(strconv.FormatFloat(v, 'f', -1, 64) + "\n"); err != nil {
			return 1
		}
	}
	if err := w.Flush(); err != nil {
		return fail("seq", err)
	}
	return 0
}

func yes(args []string) int {
	text := "y"
	if len(args) > 0 {
		text = strings.Join(args, " ")
	}
	block := []byte(strings.Repeat(text+"\n", max(1, 8192/(len(text)+1))))
	for {
		if _, err := os.Stdout.Write(block); err != nil {
			return 1
		}
	}
}
