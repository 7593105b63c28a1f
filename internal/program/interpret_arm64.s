#include "textflag.h"
#include "go_asm.h"

// The layouts of block and op are in program.go; go_asm.h has their offsets.

// func interpret(b *block)
//
// R19 is the block, R20 the current op, R21 the end of the ops. A system call
// preserves every register but R0. The child neither calls nor pushes: it has
// no stack that it uses. R18 and R27 to R29 stay untouched.
TEXT ·interpret(SB),NOSPLIT|NOFRAME,$0-8
	MOVD	b+0(FP), R19
	ISB	$15
	MRS	CNTVCT_EL0, R9
	MOVD	R9, block_began(R19)

	// rt_sigprocmask(SIG_SETMASK, &all, &old, 8)
	MOVD	$135, R8
	MOVD	$2, R0
	ADD	$block_allSignals, R19, R1
	ADD	$block_oldSignals, R19, R2
	MOVD	$8, R3
	SVC

	// setns(enter, enterKind), for the pid namespace of the child
	MOVD	block_enter(R19), R0
	CMP	$0, R0
	BLT	clone
	MOVD	block_enterKind(R19), R1
	MOVD	$268, R8
	SVC
	CBZ	R0, clone
	MOVD	R0, block_enterErr(R19)
	B	restore

clone:
	MOVD	block_cloneNr(R19), R8
	MOVD	block_cloneArg0(R19), R0
	MOVD	block_cloneArg1(R19), R1
	MOVD	$0, R2
	MOVD	$0, R3
	MOVD	$0, R4
	SVC
	CBZ	R0, child
	MOVD	R0, block_cloned(R19)

	// setns(leave, enterKind): back to where the thread was
	MOVD	block_enter(R19), R0
	CMP	$0, R0
	BLT	restore
	MOVD	block_leave(R19), R0
	MOVD	block_enterKind(R19), R1
	MOVD	$268, R8
	SVC
	MOVD	R0, block_leaveErr(R19)

restore:
	MOVD	$135, R8
	MOVD	$2, R0
	ADD	$block_oldSignals, R19, R1
	MOVD	$0, R2
	MOVD	$8, R3
	SVC
	ISB	$15
	MRS	CNTVCT_EL0, R9
	MOVD	R9, block_released(R19)
	RET

child:
	MRS	CNTVCT_EL0, R9
	MOVD	R9, block_entered(R19)
	MOVD	block_ops(R19), R20
	MOVD	block_end(R19), R21

loop:
	MOVD	R20, block_progress(R19)
	CMP	R21, R20
	BHS	finish
again:
	MOVD	op_nr(R20), R8
	MOVD	(op_args+0)(R20), R0
	MOVD	(op_args+8)(R20), R1
	MOVD	(op_args+16)(R20), R2
	MOVD	(op_args+24)(R20), R3
	MOVD	(op_args+32)(R20), R4
	MOVD	(op_args+40)(R20), R5
	SVC
	MOVD	block_fork(R19), R9
	CMP	R9, R20
	BEQ	forked
store:
	MOVD	R0, op_result(R20)
	CMN	$4095, R0
	BHS	failed

	// Store the result wherever the list of patches says.
	MOVD	op_patches(R20), R9
patch:
	CBZ	R9, patched
	MOVD	patch_to(R9), R10
	MOVD	R0, (R10)
	MOVD	patch_next(R9), R9
	B	patch
patched:
	MOVD	op_onSuccess(R20), R11

advance:
	MRS	CNTVCT_EL0, R9
	MOVD	R9, op_time(R20)
	ADD	R11, R20, R20
	B	loop

failed:
	NEG	R0, R0
	CMP	$11, R0			// EAGAIN: openat2 raced with a rename
	BNE	allowed
	MOVD	op_retries(R20), R9
	CBZ	R9, allowed
	SUB	$1, R9, R9
	MOVD	R9, op_retries(R20)
	B	again
allowed:
	MOVD	op_onFailure(R20), R11
	CMP	$128, R0
	BHS	report
	LSR	$6, R0, R9
	LSL	$3, R9, R9
	ADD	R20, R9, R9
	MOVD	op_allow(R9), R10
	LSR	R0, R10, R10		// shifts by the count modulo 64
	TBNZ	$0, R10, advance

report:
	MOVD	R0, block_errno(R19)
	MOVD	R20, block_failed(R19)
finish:
	MOVD	$94, R8			// exit_group
	MOVD	$253, R0
	SVC
	UNDEF				// a filter denies even that: nothing denies SIGILL

	// Of the two that come back from the fork the child, whose result is 0,
	// goes on; the parent says that it is through, touches nothing else, and ends.
forked:
	CMP	$0, R0
	BLE	store
	MOVD	$1, R9
	MOVD	R9, block_through(R19)
ended:
	MOVD	$94, R8			// exit_group
	MOVD	$0, R0
	SVC
	UNDEF				// as above
