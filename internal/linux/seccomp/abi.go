package seccomp

import (
	"iter"
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// abi is one way to call the kernel of a machine.
type abi struct {
	oci    specs.Arch
	goarch string // whose table it is
	audit  uint32 // AUDIT_ARCH_*, what seccomp_data.arch says
	bits   int    // of an argument
	base   uint32 // added to numbers: the x32 bit
}

// x32Bit is __X32_SYSCALL_BIT.
const x32Bit = 0x40000000

// abis returns the ABIs of a machine, the native one first; those of one audit
// architecture are neighbours in the order of their numbers.
func abis(goarch string) []abi {
	switch goarch {
	case "amd64":
		return []abi{
			{specs.ArchX86_64, "amd64", unix.AUDIT_ARCH_X86_64, 64, 0},
			{specs.ArchX32, "amd64", unix.AUDIT_ARCH_X86_64, 32, x32Bit},
			{specs.ArchX86, "386", unix.AUDIT_ARCH_I386, 32, 0},
		}
	case "arm64":
		return []abi{
			{specs.ArchAARCH64, "arm64", unix.AUDIT_ARCH_AARCH64, 64, 0},
			{specs.ArchARM, "arm", unix.AUDIT_ARCH_ARM, 32, 0},
		}
	}
	return nil
}

// ociArches are the names that the OCI runtime specification defines.
const ociArches = " SCMP_ARCH_X86 SCMP_ARCH_X86_64 SCMP_ARCH_X32 SCMP_ARCH_ARM SCMP_ARCH_AARCH64 SCMP_ARCH_MIPS" +
	" SCMP_ARCH_MIPS64 SCMP_ARCH_MIPS64N32 SCMP_ARCH_MIPSEL SCMP_ARCH_MIPSEL64 SCMP_ARCH_MIPSEL64N32 SCMP_ARCH_PPC" +
	" SCMP_ARCH_PPC64 SCMP_ARCH_PPC64LE SCMP_ARCH_S390 SCMP_ARCH_S390X SCMP_ARCH_PARISC SCMP_ARCH_PARISC64" +
	" SCMP_ARCH_RISCV64 SCMP_ARCH_LOONGARCH64 SCMP_ARCH_M68K SCMP_ARCH_SH SCMP_ARCH_SHEB "

// all yields the ABI's system calls, with every name that a number has.
func (a abi) all() iter.Seq2[string, uint32] {
	return func(yield func(string, uint32) bool) {
		text := map[string]string{"amd64": tableAMD64, "386": table386, "arm64": tableARM64, "arm": tableARM}[a.goarch]
		missing := map[string]bool{}
		if a.base == x32Bit {
			for word := range words(not32) {
				missing[word] = true
			}
		}
		var nr uint32
		for word := range words(text) {
			if word[0] <= '9' {
				n, _ := strconv.ParseUint(word, 10, 32)
				nr = uint32(n)
				continue
			}
			if !missing[word] && !yield(word, a.base+nr) {
				return
			}
			nr++
		}
		if a.base == x32Bit {
			for word, nr := range own32() {
				if !yield(word, nr) {
					return
				}
			}
		}
		if a.goarch == "arm" {
			// What the kernel's headers name otherwise, and arm's own calls
			// (__ARM_NR_*, arch/arm/include/uapi/asm/unistd.h).
			for i, word := range []string{"breakpoint", "cacheflush", "usr26", "usr32", "set_tls", "get_tls"} {
				if !yield(word, 0xf0001+uint32(i)) {
					return
				}
			}
			yield("sync_file_range2", 341)
		}
	}
}

// own32 yields the calls that only x32 has.
func own32() iter.Seq2[string, uint32] {
	return func(yield func(string, uint32) bool) {
		nr := uint32(x32Bit + only32First)
		for word := range words(only32) {
			if !yield(word, nr) {
				return
			}
			nr++
		}
	}
}

// words yields what stands between blanks, in ASCII.
func words(text string) iter.Seq[string] {
	return func(yield func(string) bool) {
		begin := 0
		for i := 0; i <= len(text); i++ {
			if i < len(text) && text[i] > ' ' {
				continue
			}
			if i > begin && !yield(text[begin:i]) {
				return
			}
			begin = i + 1
		}
	}
}

// only32First is the number of the first call in only32.
const only32First = 512

// only32 are the calls that x32 has from number 512 on.
const only32 = " rt_sigaction rt_sigreturn ioctl readv writev recvfrom sendmsg recvmsg execve ptrace rt_sigpending" +
	" rt_sigtimedwait rt_sigqueueinfo sigaltstack timer_create mq_notify kexec_load waitid set_robust_list" +
	" get_robust_list vmsplice move_pages preadv pwritev rt_tgsigqueueinfo recvmmsg sendmmsg process_vm_readv" +
	" process_vm_writev setsockopt getsockopt io_setup io_submit execveat preadv2 pwritev2 "

// not32 are the calls that x32 does not have under their amd64 number.
const not32 = only32 + "_sysctl create_module epoll_ctl_old epoll_wait_old get_kernel_syms get_thread_area" +
	" nfsservctl query_module set_thread_area uselib vserver uretprobe uprobe "

// multiplexedCall is a call that 32-bit x86 also has as a function of another.
type multiplexedCall struct {
	name, by string
	nr       uint32 // of by
	number   uint64 // its first argument
}

// multiplexed lists the functions of socketcall(2) and ipc(2); see linux/net.h
// and linux/ipc.h.
func multiplexed() (list []multiplexedCall) {
	for _, m := range []struct {
		by    string
		nr    uint32
		first uint64
		names string
	}{
		{"socketcall", 102, 1, "socket bind connect listen accept getsockname getpeername socketpair send recv sendto recvfrom" +
			" shutdown setsockopt getsockopt sendmsg recvmsg accept4 recvmmsg sendmmsg"},
		{"ipc", 117, 1, "semop semget semctl semtimedop"},
		{"ipc", 117, 11, "msgsnd msgrcv msgget msgctl"},
		{"ipc", 117, 21, "shmat shmdt shmget shmctl"},
	} {
		for name := range words(m.names) {
			list = append(list, multiplexedCall{name, m.by, m.nr, m.first})
			m.first++
		}
	}
	return list
}
