#include "textflag.h"
#include "go_asm.h"

// func series(first *Call, n int) int
//
// R12 is the call, R13 how many are left. A system call destroys CX, R11 and AX
// only.
TEXT ·series(SB),NOSPLIT,$0-24
	MOVQ	first+0(FP), R12
	MOVQ	n+8(FP), R13
loop:
	MOVQ	Call_Nr(R12), AX
	MOVQ	(Call_Args+0)(R12), DI
	MOVQ	(Call_Args+8)(R12), SI
	MOVQ	(Call_Args+16)(R12), DX
	MOVQ	(Call_Args+24)(R12), R10
	MOVQ	(Call_Args+32)(R12), R8
	MOVQ	(Call_Args+40)(R12), R9
	SYSCALL
	MOVQ	AX, Call_Result(R12)
	TESTQ	AX, AX
	JNE	done
	ADDQ	$Call__size, R12
	DECQ	R13
	JNE	loop
done:
	MOVQ	R13, ret+16(FP)
	RET
