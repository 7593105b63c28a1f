package snapshot

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// load reads the records and clears what belongs to none.
func (d *Dirs) load() error {
	links, err := os.ReadDir(d.keys)
	if err != nil {
		return err
	}
	dirs, err := os.ReadDir(d.dir)
	if err != nil {
		return err
	}
	there := make(map[string]bool, len(dirs))
	for _, e := range dirs {
		there[e.Name()] = true
		if n, err := strconv.ParseUint(e.Name(), 36, 64); err == nil {
			d.next = max(d.next, n)
		}
	}
	byID := make(map[string]*record, len(links))
	parents := make(map[*record]string, len(links))
	spare := make(map[string]bool) // directories of records that make no sense
	for _, e := range links {
		r, parent, ok := d.read(e)
		if !ok || !there[r.id] {
			spare[r.id] = true
			d.log.Error("the record of a snapshot is damaged; the snapshot is ignored", "key", e.Name())
			continue
		}
		if old := byID[r.id]; old != nil {
			// Killed while committing: both records of the directory exist.
			active := r
			if old.info.Kind == Active {
				active = old
				byID[r.id] = r
			}
			if err := os.Remove(d.path(active.info.Key)); err != nil {
				return err
			}
		} else {
			byID[r.id] = r
		}
		parents[r] = parent
	}
	for id, r := range byID {
		if p := parents[r]; p != "" {
			r.parent = byID[p]
			if r.parent == nil || r.parent.info.Kind != Committed {
				d.log.Error("the parent of a snapshot is missing; the snapshot is ignored", "key", r.info.Key, "parent", p)
				spare[id] = true
			}
		}
	}
	for id, r := range byID {
		for p := r; p != nil && r.depth <= d.form.MaxDepth(); p = p.parent {
			if spare[p.id] {
				r.depth = d.form.MaxDepth() + 1 // and what is on top of it
				break
			}
			if p != r {
				r.depth++
			}
		}
		if r.depth > d.form.MaxDepth() {
			spare[id] = true
			continue
		}
		if r.parent != nil {
			r.info.Parent = r.parent.info.Key
			r.parent.children++
		}
		d.byKey[r.info.Key] = r
	}
	for name := range there {
		r := byID[name]
		switch {
		case r == nil && !spare[name]:
			d.trash.add(name)
		case r != nil && r.info.Kind == Committed:
			for _, temporary := range d.form.Temporary() {
				if _, err := os.Lstat(filepath.Join(r.path, temporary)); err == nil {
					d.trash.add(name + "/" + temporary)
				}
			}
		}
	}
	return nil
}

// read reads one record and the id of its parent.
func (d *Dirs) read(e os.DirEntry) (r *record, parent string, ok bool) {
	r = &record{info: Info{Key: e.Name()}}
	text, err := os.Readlink(d.path(e.Name()))
	if err != nil {
		return r, "", false
	}
	st, err := e.Info()
	if err != nil {
		return r, "", false
	}
	r.info.Created = st.ModTime()
	var kind string
	r.id, text, _ = strings.Cut(text, ".")
	parent, kind, _ = strings.Cut(text, ".")
	r.path = filepath.Join(d.dir, r.id)
	switch kind {
	case "a":
		r.info.Kind = Active
	case "c":
		r.info.Kind = Committed
	}
	return r, parent, r.info.Kind != 0
}
