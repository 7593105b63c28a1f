package snapshot

import (
	"log/slog"
	"path/filepath"
)

// Survey reads the records of a directory that no driver has open, and changes
// nothing: it returns the snapshots, and the paths below root of files that
// belong to none, which OpenDirs would delete. Damaged records are logged as
// errors.
func Survey(root string, form Form, log *slog.Logger) (all []Info, stray []string, err error) {
	d := &Dirs{
		log: log, dir: filepath.Join(root, "s"), keys: filepath.Join(root, "keys"), form: form, byKey: make(map[string]*record),
		stray: func(name string) { stray = append(stray, "s/"+name) },
	}
	if err := d.load(); err != nil {
		return nil, nil, err
	}
	for _, r := range d.byKey {
		all = append(all, r.info)
	}
	return all, stray, nil
}
