package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lade/internal/need"
)

// smbPassword is root's on the server of the tests.
const smbPassword = "lade-test-secret"

// serveSMB shares dir by Samba's server, to root with smbPassword. All that the
// server keeps is in a directory of its own.
func serveSMB(t *testing.T, dir, port string) {
	if _, err := os.Stat("/usr/sbin/smbd"); err != nil {
		t.Skipf("this machine has no SMB server (samba): %v", err)
	}
	own := t.TempDir()
	config := filepath.Join(own, "smb.conf")
	var b strings.Builder
	fmt.Fprintf(&b, "[global]\nserver role = standalone server\nsmb ports = %s\ninterfaces = lo\nbind interfaces only = yes\n", port)
	b.WriteString("disable netbios = yes\ndisable spoolss = yes\nload printers = no\nprinting = bsd\nprintcap name = /dev/null\nmap to guest = never\n")
	for _, key := range []string{"private dir", "lock directory", "state directory", "cache directory", "pid directory", "ncalrpc dir"} {
		fmt.Fprintf(&b, "%s = %s\n", key, filepath.Join(own, strings.Fields(key)[0]))
	}
	fmt.Fprintf(&b, "[share]\npath = %s\nread only = no\n", dir)
	if err := os.WriteFile(config, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"private", "lock", "state", "cache", "pid", "ncalrpc"} {
		if err := os.Mkdir(filepath.Join(own, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	add := exec.Command("smbpasswd", "-c", config, "-s", "-a", "root")
	add.Stdin = strings.NewReader(smbPassword + "\n" + smbPassword + "\n")
	if out, err := add.CombinedOutput(); err != nil {
		t.Fatalf("smbpasswd: %v\n%s", err, out)
	}
	background(t, "/usr/sbin/smbd", "--foreground", "--debug-stdout", "--configfile="+config)
	for end := time.Now().Add(need.Patience(60 * time.Second)); ; time.Sleep(50 * time.Millisecond) {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the server does not answer: %v", err)
		}
	}
}
