package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

func ln(args []string) int {
	set, rest, err := options(args, "sfnv")
	if err != nil || len(rest) == 0 {
		return fail("ln", errors.Join(err, errors.New("usage: ln [-sfn] TARGET [LINK]")))
	}
	if len(rest) == 1 {
		rest = append(rest, filepath.Base(rest[0]))
	}
	_, symbolic := set['s']
	_, force := set['f']
	_, noFollow := set['n']
	to := rest[len(rest)-1]
	isDir := func() bool {
		fi, err := os.Stat(to)
		if noFollow {
			fi, err = os.Lstat(to)
		}
		return err == nil && fi.IsDir()
	}()
	for _, target := range rest[:len(rest)-1] {
		name := to
		if isDir {
			name = filepath.Join(to, filepath.Base(target))
		}
		if force {
			if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fail("ln", err)
			}
		}
		make := os.Link
		if symbolic {
			make = os.Symlink
		}
		if err := make(target, name); err != nil {
			return fail("ln", err)
		}
	}
	return 0
}

func chown(args []string) int {
	set, rest, err := options(args, "Rhv")
	if err != nil || len(rest) < 2 {
		return fail("chown", errors.Join(err, errors.New("usage: chown [-R] USER[:GROUP] FILE")))
	}
	user, group, hasGroup := strings.Cut(rest[0], ":")
	uid, gid := -1, -1
	if user != "" {
		if uid, err = lookupID("/etc/passwd", user); err != nil {
			return fail("chown", err)
		}
	}
	if hasGroup && group != "" {
		if gid, err = lookupID("/etc/group", group); err != nil {
			return fail("chown", err)
		}
	}
	_, recursive := set['R']
	for _, f := range rest[1:] {
		if !recursive {
			err = os.Chown(f, uid, gid)
		} else {
			err = filepath.WalkDir(f, func(p string, _ fs.DirEntry, err error) error {
				if err != nil {
					return err
				}
				return os.Lchown(p, uid, gid)
			})
		}
		if err != nil {
			return fail("chown", err)
		}
	}
	return 0
}

// lookupID returns the number of a name in passwd(5) or group(5).
func lookupID(file, name string) (int, error) {
	if n, err := strconv.Atoi(name); err == nil {
		return n, nil
	}
	for _, fields := range database(file) {
		if fields[0] == name && len(fields) > 2 {
			return strconv.Atoi(fields[2])
		}
	}
	return 0, fmt.Errorf("unknown name %s", name)
}

// lookupName is the inverse of lookupID; the number itself for none.
func lookupName(file string, id int) string {
	for _, fields := range database(file) {
		if len(fields) > 2 && fields[2] == strconv.Itoa(id) {
			return fields[0]
		}
	}
	return strconv.Itoa(id)
}

func database(file string) (out [][]string) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(b)) {
		out = append(out, strings.Split(strings.TrimSpace(line), ":"))
	}
	return out
}

// dd copies blocks: if= of= bs= count= skip= seek= conv=notrunc,fsync.
func dd(args []string) int {
	var in, out, conv string
	sizes := map[string]int64{"bs": 512, "count": -1, "skip": 0, "seek": 0}
	for _, a := range args {
		k, v, _ := strings.Cut(a, "=")
		switch k {
		case "if":
			in = v
		case "of":
			out = v
		case "conv":
			conv = v
		case "status", "oflag", "iflag":
		default:
			if _, ok := sizes[k]; !ok {
				return fail("dd", fmt.Errorf("unknown operand %q", a))
			}
			n, err := size(v)
			if err != nil {
				return fail("dd", err)
			}
			sizes[k] = n
		}
	}
	src, dst := os.Stdin, os.Stdout
	var err error
	if in != "" {
		if src, err = os.Open(in); err != nil {
			return fail("dd", err)
		}
	}
	if out != "" {
		mode := os.O_WRONLY | os.O_CREATE
		if !strings.Contains(conv, "notrunc") && sizes["seek"] == 0 {
			mode |= os.O_TRUNC
		}
		if dst, err = os.OpenFile(out, mode, 0o666); err != nil {
			return fail("dd", err)
		}
	}
	block := make([]byte, sizes["bs"])
	if sizes["skip"] > 0 {
		if _, err := io.CopyN(io.Discard, src, sizes["skip"]*sizes["bs"]); err != nil {
			return fail("dd", err)
		}
	}
	if sizes["seek"] > 0 {
		if _, err := dst.Seek(sizes["seek"]*sizes["bs"], io.SeekStart); err != nil {
			return fail("dd", err)
		}
	}
	var full, part, total int64
	for sizes["count"] < 0 || full+part < sizes["count"] {
		n, rerr := io.ReadFull(src, block)
		if n > 0 {
			w, err := dst.Write(block[:n])
			total += int64(w)
			if err != nil {
				fmt.Fprintf(os.Stderr, "%d+%d records in\n", full, part)
				return fail("dd", err)
			}
			if n == len(block) {
				full++
			} else {
				part++
			}
		}
		if rerr == io.EOF || rerr == io.ErrUnexpectedEOF {
			break
		}
		if rerr != nil {
			return fail("dd", rerr)
		}
	}
	if strings.Contains(conv, "fsync") {
		if err := dst.Sync(); err != nil {
			return fail("dd", err)
		}
	}
	if err := dst.Close(); err != nil && out != "" {
		return fail("dd", err)
	}
	fmt.Fprintf(os.Stderr, "%d+%d records in\n%d+%d records out\n%d bytes copied\n", full, part, full, part, total)
	return 0
}

// size reads "4k", "1M", "2G" or a plain number.
func size(s string) (int64, error) {
	factor := int64(1)
	t := strings.TrimSuffix(s, "B")
	for suffix, f := range map[string]int64{"c": 1, "k": 1 << 10, "K": 1 << 10, "M": 1 << 20, "m": 1 << 20, "G": 1 << 30, "g": 1 << 30} {
		if u, ok := strings.CutSuffix(t, suffix); ok {
			t, factor = u, f
			break
		}
	}
	n, err := strconv.ParseInt(t, 10, 64)
	return n * factor, err
}

func truncate(args []string) int {
	set, files, err := options(args, "s:c")
	if err != nil {
		return fail("truncate", err)
	}
	n, err := size(set['s'])
	if err != nil {
		return fail("truncate", err)
	}
	for _, name := range files {
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o666)
		if err != nil {
			return fail("truncate", err)
		}
		if err := errors.Join(f.Truncate(n), f.Close()); err != nil {
			return fail("truncate", err)
		}
	}
	return 0
}

// human prints n, in KiB if kilobytes, else with a suffix.
func human(n uint64, wanted bool) string {
	if !wanted {
		return strconv.FormatUint(n/1024, 10)
	}
	f, unit := float64(n), 0
	for f >= 1024 && unit < 4 {
		f, unit = f/1024, unit+1
	}
	return strconv.FormatFloat(f, 'f', 1, 64) + []string{"", "K", "M", "G", "T"}[unit]
}

func df(args []string) int {
	set, paths, err := options(args, "hkaTPi")
	if err != nil {
		return fail("df", err)
	}
	_, h := set['h']
	all := mounts()
	if len(paths) > 0 {
		var picked [][]string
		for _, p := range paths {
			abs, err := filepath.Abs(p)
			if err != nil {
				return fail("df", err)
			}
			best := -1
			for i, m := range all {
				if (abs == m[1] || strings.HasPrefix(abs, strings.TrimSuffix(m[1], "/")+"/")) && (best < 0 || len(m[1]) >= len(all[best][1])) {
					best = i
				}
			}
			if best >= 0 {
				picked = append(picked, all[best])
			}
		}
		all = picked
	}
	unit := "1K-blocks"
	if h {
		unit = "Size"
	}
	fmt.Printf("%-20s %10s %10s %10s %5s %s\n", "Filesystem", unit, "Used", "Available", "Use%", "Mounted on")
	for _, m := range all {
		var st unix.Statfs_t
		if err := unix.Statfs(m[1], &st); err != nil || st.Blocks == 0 {
			continue
		}
		bs := uint64(st.Bsize)
		used := st.Blocks - st.Bfree
		percent := uint64(0)
		if used+st.Bavail > 0 {
			percent = (used*100 + used + st.Bavail - 1) / (used + st.Bavail)
		}
		fmt.Printf("%-20s %10s %10s %10s %4d%% %s\n", m[0], human(st.Blocks*bs, h), human(used*bs, h), human(st.Bavail*bs, h), percent, m[1])
	}
	return 0
}

// mounts returns the lines of /proc/self/mounts: device, point, type, options.
func mounts() (out [][]string) {
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		fail("mount", err)
		return nil
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) >= 4 {
			out = append(out, f)
		}
	}
	return out
}

func du(args []string) int {
	set, paths, err := options(args, "shkabx")
	if err != nil {
		return fail("du", err)
	}
	_, h := set['h']
	_, summary := set['s']
	if len(paths) == 0 {
		paths = []string{"."}
	}
	var walkDir func(p string, top bool) uint64
	walkDir = func(p string, top bool) uint64 {
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			fail("du", fmt.Errorf("%s: %w", p, err))
			return 0
		}
		total := uint64(st.Blocks) * 512
		isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
		if isDir {
			entries, err := os.ReadDir(p)
			if err != nil {
				fail("du", err)
			}
			for _, e := range entries {
				total += walkDir(filepath.Join(p, e.Name()), false)
			}
		}
		if top || isDir && !summary {
			fmt.Printf("%s\t%s\n", human(total, h), p)
		}
		return total
	}
	for _, p := range paths {
		walkDir(p, true)
	}
	return 0
}

func mkfifo(args []string) int {
	for _, a := range args {
		if err := unix.Mkfifo(a, 0o666); err != nil {
			return fail("mkfifo", fmt.Errorf("%s: %w", a, err))
		}
	}
	return 0
}

func pwd([]string) int {
	wd, err := os.Getwd()
	if err != nil {
		return fail("pwd", err)
	}
	return written("pwd", wd+"\n")
}

func readlink(args []string) int {
	set, files, err := options(args, "fn")
	if err != nil {
		return fail("readlink", err)
	}
	if _, ok := set['f']; ok {
		return realpath(files)
	}
	for _, f := range files {
		to, err := os.Readlink(f)
		if err != nil {
			return 1
		}
		fmt.Println(to)
	}
	return 0
}

func realpath(args []string) int {
	for _, f := range args {
		abs, err := filepath.Abs(f)
		if err == nil {
			abs, err = filepath.EvalSymlinks(abs)
		}
		if err != nil {
			return fail("realpath", err)
		}
		fmt.Println(abs)
	}
	return 0
}

func rmdir(args []string) int {
	for _, a := range args {
		if err := unix.Rmdir(a); err != nil {
			return fail("rmdir", fmt.Errorf("%s: %w", a, err))
		}
	}
	return 0
}

// stat prints all it knows, or with -c a format of %n %s %a %u %g %U %G %F %i %h %Y.
func stat(args []string) int {
	set, files, err := options(args, "c:Lt")
	if err != nil {
		return fail("stat", err)
	}
	code := 0
	for _, f := range files {
		fi, err := os.Lstat(f)
		if _, ok := set['L']; ok {
			fi, err = os.Stat(f)
		}
		if err != nil {
			code = fail("stat", err)
			continue
		}
		st, ok := fi.Sys().(*syscall.Stat_t)
		if !ok {
			continue
		}
		kind := map[uint32]string{unix.S_IFREG: "regular file", unix.S_IFDIR: "directory", unix.S_IFLNK: "symbolic link",
			unix.S_IFCHR: "character special file", unix.S_IFBLK: "block special file", unix.S_IFIFO: "fifo", unix.S_IFSOCK: "socket"}[st.Mode&unix.S_IFMT]
		values := map[byte]string{
			'n': f, 's': strconv.FormatInt(st.Size, 10), 'a': strconv.FormatUint(uint64(st.Mode&0o7777), 8),
			'u': strconv.Itoa(int(st.Uid)), 'g': strconv.Itoa(int(st.Gid)), 'U': lookupName("/etc/passwd", int(st.Uid)),
			'G': lookupName("/etc/group", int(st.Gid)), 'F': kind, 'i': strconv.FormatUint(st.Ino, 10),
			'h': strconv.FormatUint(uint64(st.Nlink), 10), 'Y': strconv.FormatInt(fi.ModTime().Unix(), 10), 'y': fi.ModTime().String(),
			'A': fi.Mode().String(), 't': strconv.FormatUint(uint64(unix.Major(uint64(st.Rdev))), 16),
			'T': strconv.FormatUint(uint64(unix.Minor(uint64(st.Rdev))), 16), 'b': strconv.FormatInt(st.Blocks, 10), '%': "%",
		}
		format, ok := set['c']
		if !ok {
			format = "  File: %n\n  Size: %s\tBlocks: %b\t%F\n Inode: %i\tLinks: %h\nAccess: (0%a/%A)  Uid: (%u/%U)  Gid: (%g/%G)\nModify: %y"
		}
		var b strings.Builder
		for i := 0; i < len(format); i++ {
			if format[i] == '%' && i+1 < len(format) {
				i++
				b.WriteString(values[format[i]])
				continue
			}
			b.WriteByte(format[i])
		}
		fmt.Println(b.String())
	}
	return code
}

func syncDisks([]string) int {
	unix.Sync()
	return 0
}
