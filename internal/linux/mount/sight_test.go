package mount

import (
	"strings"
	"testing"
)

func TestInSight(t *testing.T) {
	const host = `22 27 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:12 - proc proc rw
23 27 0:22 / /sys rw,relatime - sysfs sysfs rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
58 23 0:13 / /sys/kernel/tracing rw,relatime - tracefs none rw
33 22 0:30 / /proc/sys/fs/binfmt_misc rw,relatime shared:14 - autofs systemd-1 rw
`
	replace := func(old, new string) string {
		if !strings.Contains(host, old) {
			t.Fatal(old)
		}
		return strings.Replace(host, old, new, 1)
	}
	for _, c := range []struct {
		name, mountinfo string
		want            bool
	}{
		{"a host", host, true},
		{"no proc", replace("- proc proc", "- tmpfs proc"), false},
		{"no sysfs", replace("- sysfs sysfs", "- tmpfs sysfs"), false},
		{"a part of proc", replace("0:21 / /proc", "0:21 /sys /proc"), false},
		{"a hidden file", host + "70 22 0:50 /null /proc/kcore rw - tmpfs none rw\n", false},
		{"a hidden file, listed first", "70 22 0:50 /null /proc/kcore rw - tmpfs none rw\n" + host, false},
		{"hidden altogether", host + "70 22 0:50 / /proc rw,relatime - tmpfs none rw\n", false},
		{"hidden in sysfs", host + "70 23 0:50 / /sys/firmware rw,relatime - tmpfs none rw\n", false},
		{"another one", host + "70 22 0:50 /null /proc/kcore rw - tmpfs none rw\n71 27 0:60 / /mnt rw,relatime - proc proc rw\n", true},
		{"read-only", replace("/sys rw,", "/sys ro,"), false},
		{"a read-only file system", replace("sysfs sysfs rw", "sysfs sysfs ro"), false},
		{"other access times", replace("/sys rw,relatime", "/sys rw,noatime"), false},
		{"garbage", "x\n" + host, false},
		{"nothing", "", false},
	} {
		if got := InSight(c.mountinfo); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
