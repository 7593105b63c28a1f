#include "textflag.h"

// The kernel's call: handler(R0 = signal). It comes back to LR, a call of
// rt_sigreturn in the kernel's own page. Whatever registers it has used, the
// kernel restores all of them.
TEXT handler<>(SB),NOSPLIT|NOFRAME|TOPFRAME,$0
	SUB	$16, RSP
	MOVB	R0, 8(RSP)
	MOVW	·writeEnd(SB), R0
	ADD	$8, RSP, R1
	MOVD	$1, R2
	MOVD	$64, R8			// write(writeEnd, RSP+8, 1)
	SVC
	ADD	$16, RSP
	RET

DATA ·handlerPC(SB)/8, $handler<>(SB)
GLOBL ·handlerPC(SB), NOPTR, $8
GLOBL ·restorerPC(SB), NOPTR, $8
