package snapshot

import (
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// load reads the records and clears what belongs to none.
func (d *Dirs) load() error {
	names, err := os.ReadDir(d.keys)
	if err != nil {
		return err
	}
	there, err := d.list()
	if err != nil {
		return err
	}
	byID := make(map[string]*record, len(names))
	parents := make(map[string]string, len(names)) // id to id
	damaged := make(map[string]bool)               // ids of records that make no sense
	for _, e := range names {
		if e.Name()[0] == '.' {
			continue
		}
		r, parent, ok := d.parse(e.Name())
		if !ok || !there[r.id] || byID[r.id] != nil || d.byKey[r.info.Key] != nil {
			d.log.Error("the record of a snapshot is damaged; the snapshot is ignored", "record", e.Name())
			damaged[r.id] = true
			continue
		}
		byID[r.id], d.byKey[r.info.Key] = r, r
		parents[r.id] = parent
	}
	for id, r := range byID {
		if p := parents[id]; p != "" {
			r.parent = byID[p]
			if r.parent == nil || r.parent.info.Kind != Committed {
				d.log.Error("the parent of a snapshot is missing; the snapshot is ignored", "key", r.info.Key, "parent", p)
				damaged[id] = true
			}
		}
	}
	for id, r := range byID {
		if !d.stand(r, damaged) {
			damaged[id] = true // its files stay, for whoever can repair the records
			delete(d.byKey, r.info.Key)
			continue
		}
		if r.parent != nil {
			r.info.Parent = r.parent.info.Key
			r.parent.children++
		}
	}
	for id := range there {
		r := byID[id]
		switch {
		case damaged[id]:
		case r == nil:
			n, _ := strconv.ParseUint(id, base, 64) // as list found it
			d.stray(place(n))
		case r.info.Kind == Committed:
			for _, temporary := range d.form.Temporary() {
				if _, err := os.Lstat(filepath.Join(r.path, temporary)); err == nil {
					d.stray(d.below(r) + "/" + temporary)
				}
			}
		}
	}
	return nil
}

// stand computes on how many snapshots r lies. It reports false when one of
// those is damaged, or when there is no end to them.
func (d *Dirs) stand(r *record, damaged map[string]bool) bool {
	for p := r; p != nil; p = p.parent {
		if damaged[p.id] || r.depth >= d.form.MaxDepth() {
			return false
		}
		if p != r {
			r.depth++
		}
	}
	return true
}

// list returns the ids of the directories that exist, and notes the buckets and
// the highest id. What else lies there goes to the trash.
func (d *Dirs) list() (map[string]bool, error) {
	there := make(map[string]bool)
	outer, err := os.ReadDir(d.dir)
	if err != nil {
		return nil, err
	}
	for _, b := range outer {
		n, err := strconv.ParseUint(b.Name(), base, 64)
		if err != nil || n >= buckets {
			d.stray(b.Name()) // what the trash moved up
			continue
		}
		d.made[n] = true
		inner, err := os.ReadDir(filepath.Join(d.dir, b.Name()))
		if err != nil {
			return nil, err
		}
		for _, e := range inner {
			id, err := strconv.ParseUint(e.Name(), base, 64)
			if err != nil || place(id) != b.Name()+"/"+e.Name() {
				d.stray(b.Name() + "/" + e.Name())
				continue
			}
			there[e.Name()] = true
			d.next = max(d.next, id)
		}
	}
	return there, nil
}

// parse reads the name of a record and the id of its parent.
func (d *Dirs) parse(name string) (r *record, parent string, ok bool) {
	r = &record{}
	fields := strings.Split(name, ".")
	if len(fields) < 5 {
		return r, "", false
	}
	key, rest := fields[:len(fields)-4], fields[len(fields)-4:]
	r.info.Key = strings.Join(key, ".")
	r.id, parent = rest[0], rest[1]
	switch rest[2] {
	case "a":
		r.info.Kind = Active
	case "c":
		r.info.Kind = Committed
	}
	id, err := strconv.ParseUint(r.id, base, 64)
	ms, terr := strconv.ParseInt(rest[3], base, 64)
	if err != nil || terr != nil || r.info.Kind == 0 || !fs.ValidPath(r.info.Key) {
		return r, "", false
	}
	r.info.Created = time.UnixMilli(ms)
	r.path = d.dir + "/" + place(id)
	return r, parent, true
}
