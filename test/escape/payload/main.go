// Payload is the attacker of the tests of lade/test/escape: what it does depends
// on its first argument. It prints "escaped: …" for each attack that succeeded,
// "held: …" for one that did not, and "ready" when it has begun.
package main

import (
	"fmt"
	"os"
	"time"
)

// verbs are the attacks, and the naive runtimes that fall for them.
func verbs() map[string]func([]string) error {
	return map[string]func([]string) error{
		"overwrite": overwrite, "naive-exec": naiveExec, "naive-5736": naive5736, "hunt": hunt,
		"exchange": exchange, "visible": visible, "naive-mount": naiveMount, "naive-mask": naiveMask, "naive-read": naiveRead,
		"mounted": mounted, "cwd": cwd, "naive-cwd": naiveCwd, "fds": fds,
		"inheritable": inheritable, "show-caps": showCaps, "file-caps": fileCaps,
		"release-agent": releaseAgent, "fork-bomb": forkBomb, "device": openDevice,
		"key-add": keyAdd, "key-find": keyFind, "kcore": kcore, "abstract-listen": abstractListen, "abstract-find": abstractFind,
		"dirty": dirty, "sti": sti, "userns": userns, "compat": compat, "attempt": attempt, "dev-null": devNull,
		"sockets": sockets, "streams": streams, "set-uid": setUID, "whoami": whoami,
	}
}

func main() {
	if len(os.Args) < 2 {
		os.Exit(2)
	}
	verb, there := verbs()[os.Args[1]]
	if !there {
		// The engine's program or a naive runtime's, started again by an attack:
		// it stays for a while to be looked at.
		time.Sleep(300 * time.Millisecond)
		os.Exit(0)
	}
	if err := verb(os.Args[2:]); err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
}

func escaped(format string, a ...any) { fmt.Printf("escaped: "+format+"\n", a...) }

func held(format string, a ...any) { fmt.Printf("held: "+format+"\n", a...) }
