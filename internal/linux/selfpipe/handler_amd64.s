#include "textflag.h"

// The kernel's call: handler(DI = signal). It comes back to restorer. Whatever
// registers it has used, the kernel restores all of them.
TEXT handler<>(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	SUBQ	$8, SP
	MOVB	DI, 0(SP)
	MOVLQSX	·writeEnd(SB), DI
	MOVQ	SP, SI
	MOVL	$1, DX
	MOVL	$1, AX			// write(writeEnd, SP, 1)
	SYSCALL
	ADDQ	$8, SP
	RET

TEXT restorer<>(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	MOVL	$15, AX			// rt_sigreturn
	SYSCALL
	INT	$3			// it does not return

DATA ·handlerPC(SB)/8, $handler<>(SB)
GLOBL ·handlerPC(SB), NOPTR, $8
DATA ·restorerPC(SB)/8, $restorer<>(SB)
GLOBL ·restorerPC(SB), NOPTR, $8
