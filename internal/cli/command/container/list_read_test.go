package container

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/moby/moby/api/types/container"
)

// TestScanList: each column is the same whether the answer is read as a whole or
// only for that column, and so are all together.
func TestScanList(t *testing.T) {
	const answer = `[
		{"Id":"0123456789abcdef","Names":["/web","/other/alias"],"Image":"busybox","ImageID":"sha256:0123","ImageManifestDescriptor":{"mediaType":"m","digest":"sha256:00","size":1,"platform":{"architecture":"arm64","os":"linux","variant":"v8"}},
		 "Command":"sh -c 'echo \"\u00fc\"'","Created":1700000000,"Ports":[{"IP":"0.0.0.0","PrivatePort":80,"PublicPort":8080,"Type":"tcp"},{"IP":"::","PrivatePort":80,"PublicPort":8080,"Type":"tcp"},{"PrivatePort":9,"Type":"udp"}],
		 "SizeRw":12,"SizeRootFs":3000,"Labels":{"a":"b","c.d":"\n"},"State":"running","Status":"Up 3 hours (healthy)","HostConfig":{"NetworkMode":"bridge","Annotations":{"lade.published.127.0.0.1:1:80/tcp":"policy=gate"}},
		 "Health":{"Status":"healthy","FailingStreak":0},"NetworkSettings":{"Networks":{"n2":{"Aliases":null,"IPAddress":"10.0.0.2"},"bridge":{"GwPriority":0}}},
		 "Mounts":[{"Type":"volume","Name":"data","Source":"/x","Destination":"/data","Driver":"local","RW":true},{"Type":"bind","Source":"/a/very/long/path/of/the/host","Destination":"/b"}],"Unknown":[{"x":[1.5e3,true]}]},
		{"Id":"fedcba9876543210","Names":null,"Image":"","ImageID":"","Command":"","Created":0,"Ports":null,"Labels":null,"State":"created","Status":"Created","HostConfig":{},"NetworkSettings":null,"Mounts":null,"ImageManifestDescriptor":{"platform":null}}
	]`
	var want []container.Summary
	if err := json.Unmarshal([]byte(answer), &want); err != nil {
		t.Fatal(err)
	}
	all := Header().Columns()
	sets := [][]string{all}
	for _, f := range all {
		sets = append(sets, []string{f})
	}
	for _, fields := range sets {
		got, err := scanList([]byte(answer), fields)
		if err != nil || len(got) != len(want) {
			t.Fatalf("%v: %d %v", fields, len(got), err)
		}
		for i := range want {
			for _, short := range []bool{true, false} {
				g, w := row(&got[i], short, fields), row(&want[i], short, fields)
				gj, _ := json.Marshal(g)
				wj, _ := json.Marshal(w)
				if !reflect.DeepEqual(gj, wj) {
					t.Errorf("%v: %s, want %s", fields, gj, wj)
				}
			}
		}
	}
	for _, bad := range []string{`{`, `{"message":"x"}`, `[{"Id":1}]`, `[] []`, ``} {
		if _, err := scanList([]byte(bad), all); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}
