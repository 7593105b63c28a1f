#include "textflag.h"
#include "go_asm.h"

// func series(first *Call, n int) int
//
// R19 is the call, R20 how many are left. A system call preserves every register
// but R0.
TEXT ·series(SB),NOSPLIT|NOFRAME,$0-24
	MOVD	first+0(FP), R19
	MOVD	n+8(FP), R20
loop:
	MOVD	Call_Nr(R19), R8
	MOVD	(Call_Args+0)(R19), R0
	MOVD	(Call_Args+8)(R19), R1
	MOVD	(Call_Args+16)(R19), R2
	MOVD	(Call_Args+24)(R19), R3
	MOVD	(Call_Args+32)(R19), R4
	MOVD	(Call_Args+40)(R19), R5
	SVC
	MOVD	R0, Call_Result(R19)
	CBNZ	R0, done
	ADD	$Call__size, R19
	SUB	$1, R20
	CBNZ	R20, loop
done:
	MOVD	R20, ret+16(FP)
	RET
