// The least that a program must do to run the bundle of runtime_test.go: the
// system calls alone, on control groups of versions 1 and 2 as this machine has
// them; no C library, no run-time system of a language, no JSON, no messages, no
// signals, no terminal. It is a yardstick, not a runtime.
//
//	floor STATE ROOTFS NAME
#include <linux/sched.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <linux/capability.h>
#include <linux/prctl.h>
#include <linux/if.h>
#include <linux/fcntl.h>
#include <linux/stat.h>
#include <asm/unistd.h>
#include <stddef.h>

typedef unsigned long u;

static inline long sys(long n, u a, u b, u c, u d, u e, u f) {
	long r;
	register u r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
	__asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
	return r;
}
static void fail(int line) { sys(__NR_exit_group, line % 251 + 1, 0, 0, 0, 0, 0); }
#define CALL(n, a, b, c, d, e, f) ({ long r_ = sys(n, (u)(a), (u)(b), (u)(c), (u)(d), (u)(e), (u)(f)); if (r_ < 0 && r_ > -4096) fail(__LINE__); r_; })
#define TRY(n, a, b, c, d, e, f) sys(n, (u)(a), (u)(b), (u)(c), (u)(d), (u)(e), (u)(f))
#define OPENAT(d, p, f) CALL(__NR_openat, d, p, f, 0600, 0, 0)
#define CLOSE(fd) CALL(__NR_close, fd, 0, 0, 0, 0, 0)
#define WRITE(fd, s) CALL(__NR_write, fd, s, sizeof(s) - 1, 0, 0, 0)

enum { O_CREAT_ = 0100, O_PATH_ = 010000000, O_DIR_ = 0200000, O_CLOEXEC_ = 02000000, CWD = -100 };
enum { HIER = 8 };
static const char *hier[HIER] = {"/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpuacct", "/sys/fs/cgroup/cpuset", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/devices", "/sys/fs/cgroup/freezer", "/sys/fs/cgroup/blkio", "/sys/fs/cgroup/pids"};
static const char *under[HIER] = {"cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids"};
static int dir[HIER], group[HIER], tasks[HIER], view[HIER], unified, into, root;
static char **args, *name;
static char text[8192];
static char block[65536];

static int fs(const char *kind, const char *const *o, u attrs) {
	int f = CALL(__NR_fsopen, kind, 1, 0, 0, 0, 0);
	for (; o && *o; o += 2)
		CALL(__NR_fsconfig, f, o[1] ? 1 : 0, o[0], o[1], 0, 0);
	CALL(__NR_fsconfig, f, 6, 0, 0, 0, 0);
	return CALL(__NR_fsmount, f, 1, attrs, 0, 0, 0);
}
static void put(int mnt, int d, const char *at) { CALL(__NR_move_mount, mnt, "", d, at, MOVE_MOUNT_F_EMPTY_PATH, 0); }
static int at(int d, const char *p, u flags) {
	struct open_how how = {.flags = O_PATH_ | O_CLOEXEC_ | flags, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
	return TRY(__NR_openat2, d, p, &how, sizeof how, 0, 0);
}
static void over(int mnt, int to) { CALL(__NR_move_mount, mnt, "", to, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH, 0); }
static const u nodev = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;

static void child(void) {
	for (int i = 0; i < HIER; i++)
		WRITE(tasks[i], "0");
	int s = CALL(__NR_socket, 2, 2, 0, 0, 0, 0);
	struct ifreq lo = {.ifr_name = "lo"};
	lo.ifr_flags = IFF_UP | IFF_RUNNING;
	CALL(__NR_ioctl, s, 0x8914, &lo, 0, 0, 0);
	CALL(__NR_unshare, CLONE_NEWCGROUP, 0, 0, 0, 0, 0);
	CALL(__NR_mount, "", "/", "", 1 << 18 | 16384, 0, 0);
	int null = OPENAT(CWD, "/dev/null", O_PATH_ | O_CLOEXEC_);
	put(root, CWD, args[2]);
	int proc = fs("proc", (const char *[]){"source", "proc", 0}, 0);
	over(proc, at(root, "/proc", O_DIR_));
	int dev = fs("tmpfs", (const char *[]){"mode", "755", "size", "65536k", "source", "tmpfs", 0}, MOUNT_ATTR_NOSUID | MOUNT_ATTR_STRICTATIME);
	over(dev, at(root, "/dev", O_DIR_));
	int pts = fs("devpts", (const char *[]){"newinstance", 0, "ptmxmode", "0666", "mode", "0620", "gid", "5", "source", "devpts", 0}, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
	CALL(__NR_mkdirat, dev, "pts", 0755, 0, 0, 0); put(pts, dev, "pts");
	int shm = fs("tmpfs", (const char *[]){"mode", "1777", "size", "65536k", "source", "shm", 0}, nodev);
	CALL(__NR_mkdirat, dev, "shm", 0755, 0, 0, 0); put(shm, dev, "shm");
	int mq = fs("mqueue", (const char *[]){"source", "mqueue", 0}, nodev);
	CALL(__NR_mkdirat, dev, "mqueue", 0755, 0, 0, 0); put(mq, dev, "mqueue");
	int sysfs = fs("sysfs", (const char *[]){"source", "sysfs", 0}, nodev | MOUNT_ATTR_RDONLY);
	over(sysfs, at(root, "/sys", O_DIR_));
	int cg = fs("tmpfs", (const char *[]){"source", "tmpfs", "mode", "755", 0}, nodev);
	over(cg, at(root, "/sys/fs/cgroup", O_DIR_));
	for (int i = 0; i < HIER; i++) {
		CALL(__NR_mkdirat, cg, under[i], 0755, 0, 0, 0);
		put(view[i], cg, under[i]);
	}
	static const struct { const char *n; int maj, min; } nodes[] = {{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}};
	for (int i = 0; i < 6; i++)
		CALL(__NR_mknodat, dev, nodes[i].n, 0020666, nodes[i].maj << 8 | nodes[i].min, 0, 0);
	static const char *links[][2] = {{"/proc/self/fd", "fd"}, {"/proc/self/fd/0", "stdin"}, {"/proc/self/fd/1", "stdout"}, {"/proc/self/fd/2", "stderr"}, {"pts/ptmx", "ptmx"}, {"/proc/kcore", "core"}};
	for (int i = 0; i < 6; i++)
		CALL(__NR_symlinkat, links[i][0], dev, links[i][1], 0, 0, 0);
	static const char *masks[] = {"acpi", "asound", "kcore", "keys", "latency_stats", "timer_list", "timer_stats", "sched_debug", "scsi"};
	struct mount_attr ro = {.attr_set = MOUNT_ATTR_RDONLY};
	for (int i = 0; i < 9; i++) {
		int f = at(proc, masks[i], 0);
		if (f < 0)
			continue;
		over(i == 0 ? fs("tmpfs", (const char *[]){"nr_inodes", "1", 0}, nodev | MOUNT_ATTR_RDONLY) : CALL(__NR_open_tree, null, "", OPEN_TREE_CLONE | AT_EMPTY_PATH, 0, 0, 0), f);
	}
	over(fs("tmpfs", (const char *[]){"nr_inodes", "1", 0}, nodev | MOUNT_ATTR_RDONLY), at(sysfs, "firmware", O_DIR_));
	static const char *closed[] = {"bus", "fs", "irq", "sys", "sysrq-trigger"};
	for (int i = 0; i < 5; i++) {
		int f = at(proc, closed[i], 0);
		if (f < 0)
			continue;
		int t = CALL(__NR_open_tree, f, "", OPEN_TREE_CLONE | AT_EMPTY_PATH | AT_RECURSIVE, 0, 0, 0);
		CALL(__NR_mount_setattr, t, "", AT_EMPTY_PATH | AT_RECURSIVE, &ro, sizeof ro, 0);
		over(t, f);
	}
	CALL(__NR_sethostname, "lade", 4, 0, 0, 0, 0);
	CALL(__NR_mount_setattr, cg, "", AT_EMPTY_PATH, &ro, sizeof ro, 0);
	CALL(__NR_mount_setattr, root, "", AT_EMPTY_PATH, &ro, sizeof ro, 0);
	CALL(__NR_fchdir, root, 0, 0, 0, 0, 0);
	CALL(__NR_pivot_root, ".", ".", 0, 0, 0, 0);
	CALL(__NR_umount2, ".", 2, 0, 0, 0, 0);
	CALL(__NR_chdir, "/", 0, 0, 0, 0, 0);
	CALL(__NR_keyctl, 1, "_ses", 0, 0, 0, 0);
	CALL(__NR_setsid, 0, 0, 0, 0, 0, 0);
	CALL(__NR_close_range, 3, ~0u, 0, 0, 0, 0);
	u limit[2] = {1024, 1024};
	CALL(__NR_prlimit64, 0, 7, limit, 0, 0, 0);
	for (int c = 0; c <= 40; c++)
		if (c != CAP_AUDIT_WRITE && c != CAP_KILL && c != CAP_NET_BIND_SERVICE)
			TRY(__NR_prctl, PR_CAPBSET_DROP, c, 0, 0, 0, 0);
	CALL(__NR_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0);
	CALL(__NR_setgroups, 0, 0, 0, 0, 0, 0);
	CALL(__NR_setresgid, 0, 0, 0, 0, 0, 0);
	CALL(__NR_setresuid, 0, 0, 0, 0, 0, 0);
	u keep = 1 << CAP_AUDIT_WRITE | 1 << CAP_KILL | 1 << CAP_NET_BIND_SERVICE;
	struct __user_cap_header_struct h = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct d[2] = {{keep, keep, 0}, {0, 0, 0}};
	CALL(__NR_capset, &h, d, 0, 0, 0, 0);
	char *argv[] = {"/bin/true", 0}, *envp[] = {"PATH=/bin", 0};
	CALL(__NR_execve, argv[0], argv, envp, 0, 0, 0);
}

void run(char **a) {
	args = a; name = a[3];
	int f = OPENAT(CWD, "/proc/self/stat", 0);
	CALL(__NR_read, f, text, 512, 0, 0, 0);
	CLOSE(f);
	for (int i = 0; i < HIER; i++)
		dir[i] = OPENAT(CWD, hier[i], O_PATH_ | O_DIR_ | O_CLOEXEC_);
	unified = OPENAT(CWD, "/sys/fs/cgroup/unified", O_PATH_ | O_DIR_ | O_CLOEXEC_);
	TRY(__NR_mkdirat, CWD, args[1], 0700, 0, 0, 0);
	int st = OPENAT(CWD, args[1], O_PATH_ | O_DIR_ | O_CLOEXEC_);
	CALL(__NR_mkdirat, st, name, 0711, 0, 0, 0);
	st = OPENAT(st, name, O_PATH_ | O_DIR_ | O_CLOEXEC_);
	f = OPENAT(st, "state.json", O_CREAT_ | 1 | O_CLOEXEC_);
	CALL(__NR_write, f, text, 3000, 0, 0, 0);
	root = CALL(__NR_open_tree, CWD, args[2], OPEN_TREE_CLONE | O_CLOEXEC_ | AT_RECURSIVE, 0, 0, 0);
	struct mount_attr priv = {.propagation = 1 << 18};
	CALL(__NR_mount_setattr, root, "", AT_EMPTY_PATH | AT_RECURSIVE, &priv, sizeof priv, 0);
	for (int i = 0; i < HIER; i++) {
		CALL(__NR_mkdirat, dir[i], name, 0755, 0, 0, 0);
		group[i] = OPENAT(dir[i], name, O_PATH_ | O_DIR_ | O_CLOEXEC_);
	}
	CALL(__NR_mkdirat, unified, name, 0755, 0, 0, 0);
	into = OPENAT(unified, name, O_PATH_ | O_DIR_ | O_CLOEXEC_);
	static const char *files[] = {"cpuset.mems", "cpuset.cpus"};
	for (int i = 0; i < 2; i++) {
		int r = OPENAT(dir[2], files[i], O_CLOEXEC_);
		long n = CALL(__NR_read, r, text, 512, 0, 0, 0);
		int w = OPENAT(group[2], files[i], 1 | O_CLOEXEC_);
		CALL(__NR_write, w, text, n, 0, 0, 0);
		CLOSE(r); CLOSE(w);
	}
	int deny = OPENAT(group[4], "devices.deny", 1 | O_CLOEXEC_);
	WRITE(deny, "a");
	int allow = OPENAT(group[4], "devices.allow", 1 | O_CLOEXEC_);
	WRITE(allow, "c *:* m"); WRITE(allow, "b *:* m");
	WRITE(allow, "c 1:3 rwm"); WRITE(allow, "c 1:5 rwm"); WRITE(allow, "c 1:7 rwm"); WRITE(allow, "c 1:8 rwm"); WRITE(allow, "c 1:9 rwm");
	WRITE(allow, "c 5:0 rwm"); WRITE(allow, "c 5:1 rwm"); WRITE(allow, "c 136:* rwm"); WRITE(allow, "c 5:2 rwm");
	struct mount_attr ro = {.attr_set = nodev | MOUNT_ATTR_RDONLY};
	for (int i = 0; i < HIER; i++) {
		tasks[i] = OPENAT(group[i], "tasks", 1 | O_CLOEXEC_);
		view[i] = CALL(__NR_open_tree, group[i], "", OPEN_TREE_CLONE | O_CLOEXEC_ | AT_EMPTY_PATH, 0, 0, 0);
		CALL(__NR_mount_setattr, view[i], "", AT_EMPTY_PATH, &ro, sizeof ro, 0);
	}
	int pidfd = -1;
	struct clone_args c = {
		.flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWNS | CLONE_INTO_CGROUP,
		.pidfd = (u)&pidfd, .exit_signal = 17, .stack = (u)block, .stack_size = sizeof block, .cgroup = into,
	};
	register long r __asm__("rax");
	__asm__ volatile("syscall" : "=r"(r) : "a"(__NR_clone3), "D"(&c), "S"(sizeof c) : "rcx", "r11", "memory");
	if (r == 0) {
		child();
		fail(__LINE__);
	}
	if (r < 0)
		fail(__LINE__);
	CALL(__NR_write, f, text, 300, 0, 0, 0);
	char info[128];
	CALL(__NR_waitid, 3, pidfd, info, 4, 0, 0);
	for (int i = 0; i < HIER; i++)
		CALL(__NR_unlinkat, dir[i], name, 0x200, 0, 0, 0);
	CALL(__NR_unlinkat, unified, name, 0x200, 0, 0, 0);
	CALL(__NR_unlinkat, st, "state.json", 0, 0, 0, 0);
	st = OPENAT(CWD, args[1], O_PATH_ | O_DIR_ | O_CLOEXEC_);
	CALL(__NR_unlinkat, st, name, 0x200, 0, 0, 0);
	sys(__NR_exit_group, *(int *)(info + 24), 0, 0, 0, 0, 0);
}
__asm__(".globl _start\n_start: mov %rsp, %rdi\n add $8, %rdi\n and $-16, %rsp\n call run\n hlt\n");
