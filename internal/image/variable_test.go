package image

import (
	"slices"
	"testing"

	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
)

// TestVariables: the changes of a commit see the variables of the image, and each
// one those before it.
func TestVariables(t *testing.T) {
	for _, x := range []struct{ change, want string }{
		{"ENV PATH=/usr/bin:$PATH", "PATH=/usr/bin:/bin"},
		{`ENV PATH="${PATH}:/x"`, "PATH=/bin:/x"},
		{`ENV PATH='$PATH'`, "PATH=$PATH"},
		{`ENV PATH=\$PATH`, "PATH=$PATH"},
		{"ENV PATH ${none:-/y} $PATH", "PATH=/y /bin"},
		{"ENV PATH=${PATH:+set}${none:+not}$none", "PATH=set"},
		{"ENV PATH=a$", "PATH=a$"},
		{"ENV PATH=${PATH", "!"},
		{"ENV PATH=${P-H}", "!"},
		{"ENV PATH=${PATH:?no}", "!"},
	} {
		var c dockerspec.DockerOCIImageConfig
		c.Env = []string{"PATH=/bin"}
		err := Change(&c, []string{x.change})
		if (err != nil) != (x.want == "!") || err == nil && !slices.Equal(c.Env, []string{x.want}) {
			t.Errorf("%s: %q, %v", x.change, c.Env, err)
		}
	}
	var c dockerspec.DockerOCIImageConfig
	c.Env = []string{"D=/d", "P=80"}
	if err := Change(&c, []string{"WORKDIR $D/e", "USER $P", "EXPOSE $P/udp", "LABEL at=$D", "CMD $D"}); err != nil {
		t.Fatal(err)
	}
	if _, ok := c.ExposedPorts["80/udp"]; c.WorkingDir != "/d/e" || c.User != "80" || !ok || c.Labels["at"] != "/d" || c.Cmd[2] != "$D" {
		t.Errorf("%+v", c)
	}
}
