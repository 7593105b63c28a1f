package crash

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"lade/internal/digest"
	"lade/internal/image/imagetest"
	"lade/internal/snapshot/snapshottest"
)

// TestPointsBtrfs ends the daemon where a snapshot has no record yet, with a
// driver whose snapshots are more than directories. LADE_PLACE is a pattern of
// other places.
func TestPointsBtrfs(t *testing.T) {
	disk := snapshottest.Disk{Type: "btrfs", Mkfs: []string{"mkfs.btrfs", "-q"}, From: "btrfs-progs", Size: 1 << 30}
	t.Setenv("TMPDIR", disk.Mount(t))
	if os.Getenv("LADE_PLACE") == "" {
		t.Setenv("LADE_PLACE", `^snapshot\.prepare$`)
	}
	points(t, "--storage-driver", "btrfs")
}

// TestPointsImages ends the daemon wherever images and volumes are kept, while
// they come from outside: by pull, by import of an image and of a volume, and by a
// snapshot of one.
func TestPointsImages(t *testing.T) {
	if os.Getenv("LADE_PLACE") == "" {
		t.Setenv("LADE_PLACE", `^(content|image)\.|^volume\.filled$`)
	}
	r := &oneImage{}
	server := httptest.NewServer(r)
	defer server.Close()
	archive := filepath.Join(t.TempDir(), "volume.tar")
	if err := os.WriteFile(archive, imagetest.Tar(t, imagetest.File{Name: "f", Body: "in a volume"}), 0o600); err != nil {
		t.Fatal(err)
	}
	pointsOf(t, func(p *player, _ string) {
		p.pullImage(r, strings.TrimPrefix(server.URL, "http://"))
		v, s := p.object("volume", "imported"), p.object("volume", "snapshot")
		p.do(v, "import", there, nil, func(context.Context) error { return p.ours("volume", "import", v.name, archive) })
		p.do(s, "snapshot", there, nil, func(context.Context) error { return p.ours("volume", "snapshot", v.name, s.name) })
		i := p.object("image", "imported")
		p.do(i, "import", there, nil, func(context.Context) error { return p.ours("import", archive, i.name) })
		p.removeImage(i)
		p.removeVolume(s)
	})
}

// oneImage is a registry with one image, under every name.
type oneImage struct{ image *imagetest.Built }

func (o *oneImage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.Contains(r.URL.Path, "/manifests/") {
		w.Header().Set("Content-Type", o.image.Desc.MediaType)
		_, _ = w.Write(o.image.Manifest)
		return
	}
	_, name, _ := strings.Cut(r.URL.Path, "/blobs/")
	body, ok := o.image.Blobs[digest.Digest(name)]
	if !ok {
		http.NotFound(w, r)
		return
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

// pullImage pulls an image of two layers that nobody has, and removes it.
func (p *player) pullImage(r *oneImage, host string) {
	r.image = imagetest.Build(p.t, imagetest.Spec{Compress: imagetest.Gzip, Layers: [][]byte{
		imagetest.Tar(p.t, imagetest.File{Name: "one", Body: p.prefix}), imagetest.Tar(p.t, imagetest.File{Name: "two", Body: p.prefix}),
	}})
	o := &object{kind: "image", name: host + "/pulled/" + p.prefix + "x:latest", state: none}
	p.objects[o.kind+o.name] = o
	p.do(o, "pull", there, nil, func(ctx context.Context) error {
		res, err := p.c.ImagePull(ctx, o.name, client.ImagePullOptions{})
		if err != nil {
			return err
		}
		return res.Wait(ctx)
	})
	p.removeImage(o)
}
