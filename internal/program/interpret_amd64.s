#include "textflag.h"
#include "go_asm.h"

// The layouts of block and op are in program.go; go_asm.h has their offsets.

// func interpret(b *block)
//
// BX is the block, R12 the current op, R13 the end of the ops. A system call
// destroys CX, R11 and AX only. The child neither calls nor pushes: it has no
// stack that it uses.
TEXT ·interpret(SB),NOSPLIT,$0-8
	MOVQ	b+0(FP), BX
	RDTSC
	SHLQ	$32, DX
	ORQ	DX, AX
	MOVQ	AX, block_began(BX)

	// rt_sigprocmask(SIG_SETMASK, &all, &old, 8)
	MOVQ	$14, AX
	MOVQ	$2, DI
	LEAQ	block_allSignals(BX), SI
	LEAQ	block_oldSignals(BX), DX
	MOVQ	$8, R10
	SYSCALL

	// setns(enter, enterKind), for the pid namespace of the child
	MOVQ	block_enter(BX), DI
	TESTQ	DI, DI
	JLT	clone
	MOVQ	block_enterKind(BX), SI
	MOVQ	$308, AX
	SYSCALL
	TESTQ	AX, AX
	JEQ	clone
	MOVQ	AX, block_enterErr(BX)
	JMP	restore

clone:
	MOVQ	block_cloneNr(BX), AX
	MOVQ	block_cloneArg0(BX), DI
	MOVQ	block_cloneArg1(BX), SI
	XORL	DX, DX
	XORL	R10, R10
	XORL	R8, R8
	SYSCALL
	TESTQ	AX, AX
	JEQ	child
	MOVQ	AX, block_cloned(BX)

	// setns(leave, enterKind): back to where the thread was
	MOVQ	block_enter(BX), DI
	TESTQ	DI, DI
	JLT	restore
	MOVQ	block_leave(BX), DI
	MOVQ	block_enterKind(BX), SI
	MOVQ	$308, AX
	SYSCALL
	MOVQ	AX, block_leaveErr(BX)

restore:
	MOVQ	$14, AX
	MOVQ	$2, DI
	LEAQ	block_oldSignals(BX), SI
	XORL	DX, DX
	MOVQ	$8, R10
	SYSCALL
	RDTSC
	SHLQ	$32, DX
	ORQ	DX, AX
	MOVQ	AX, block_released(BX)
	RET

child:
	RDTSC
	SHLQ	$32, DX
	ORQ	DX, AX
	MOVQ	AX, block_entered(BX)
	MOVQ	block_ops(BX), R12
	MOVQ	block_end(BX), R13

loop:
	MOVQ	R12, block_progress(BX)
	CMPQ	R12, R13
	JCC	finish
again:
	MOVQ	op_nr(R12), AX
	MOVQ	(op_args+0)(R12), DI
	MOVQ	(op_args+8)(R12), SI
	MOVQ	(op_args+16)(R12), DX
	MOVQ	(op_args+24)(R12), R10
	MOVQ	(op_args+32)(R12), R8
	MOVQ	(op_args+40)(R12), R9
	SYSCALL
	CMPQ	R12, block_fork(BX)
	JEQ	forked
store:
	MOVQ	AX, op_result(R12)
	CMPQ	AX, $0xfffffffffffff001
	JCC	failed

	// Store the result wherever the list of patches says.
	MOVQ	op_patches(R12), CX
patch:
	TESTQ	CX, CX
	JEQ	patched
	MOVQ	patch_to(CX), SI
	MOVQ	AX, (SI)
	MOVQ	patch_next(CX), CX
	JMP	patch
patched:
	MOVQ	op_onSuccess(R12), SI

advance:
	RDTSC
	SHLQ	$32, DX
	ORQ	DX, AX
	MOVQ	AX, op_time(R12)
	ADDQ	SI, R12
	JMP	loop

failed:
	NEGQ	AX
	CMPQ	AX, $11			// EAGAIN: openat2 raced with a rename
	JNE	allowed
	MOVQ	op_retries(R12), CX
	TESTQ	CX, CX
	JEQ	allowed
	DECQ	CX
	MOVQ	CX, op_retries(R12)
	JMP	again
allowed:
	MOVQ	op_onFailure(R12), SI
	CMPQ	AX, $128
	JCC	report
	MOVQ	AX, CX
	SHRQ	$6, CX
	MOVQ	op_allow(R12)(CX*8), CX
	BTQ	AX, CX			// the bit's number modulo 64
	JCS	advance

report:
	MOVQ	AX, block_errno(BX)
	MOVQ	R12, block_failed(BX)
finish:
	MOVQ	$231, AX		// exit_group
	MOVQ	$253, DI
	SYSCALL
	UD2				// a filter denies even that: nothing denies SIGILL

	// Of the two that come back from the fork the child, whose result is 0,
	// goes on; the parent says that it is through, touches nothing else, and ends.
forked:
	TESTQ	AX, AX
	JLE	store
	MOVQ	$1, block_through(BX)
ended:
	MOVQ	$231, AX		// exit_group
	XORL	DI, DI
	SYSCALL
	UD2				// as above
