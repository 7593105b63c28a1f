#include "textflag.h"

// func plain(text []byte) int
//
// SSE2, which every amd64 has. A signed comparison finds both what is below
// 0x20 and what is above 0x7f; < and > differ in one bit.
TEXT ·plain(SB), NOSPLIT, $0-32
	MOVQ text_base+0(FP), SI
	MOVQ text_len+8(FP), CX
	MOVQ SI, DI

	MOVQ $0x2020202020202020, AX
	MOVQ AX, X1
	PUNPCKLQDQ X1, X1
	MOVQ $0x2222222222222222, AX // "
	MOVQ AX, X2
	PUNPCKLQDQ X2, X2
	MOVQ $0x2626262626262626, AX // &
	MOVQ AX, X3
	PUNPCKLQDQ X3, X3
	MOVQ $0x3e3e3e3e3e3e3e3e, AX // >
	MOVQ AX, X4
	PUNPCKLQDQ X4, X4
	MOVQ $0x0202020202020202, AX // > but not <
	MOVQ AX, X5
	PUNPCKLQDQ X5, X5
	MOVQ $0x5c5c5c5c5c5c5c5c, AX // backslash
	MOVQ AX, X6
	PUNPCKLQDQ X6, X6

loop:
	CMPQ CX, $16
	JB   done
	MOVOU (SI), X0
	MOVO X1, X7
	PCMPGTB X0, X7
	MOVO X0, X8
	PCMPEQB X2, X8
	POR  X8, X7
	MOVO X0, X9
	PCMPEQB X3, X9
	POR  X9, X7
	MOVO X0, X10
	PCMPEQB X6, X10
	POR  X10, X7
	POR  X5, X0
	PCMPEQB X4, X0
	POR  X0, X7
	PMOVMSKB X7, AX
	TESTL AX, AX
	JNE  found
	ADDQ $16, SI
	SUBQ $16, CX
	JMP  loop

found:
	BSFL AX, AX
	ADDQ AX, SI

done:
	SUBQ DI, SI
	MOVQ SI, ret+24(FP)
	RET
