#include "textflag.h"

DATA space<>+0(SB)/8, $0x2020202020202020
DATA space<>+8(SB)/8, $0x2020202020202020
GLOBL space<>(SB), RODATA|NOPTR, $16

DATA quot<>+0(SB)/8, $0x2222222222222222 // "
DATA quot<>+8(SB)/8, $0x2222222222222222
GLOBL quot<>(SB), RODATA|NOPTR, $16

DATA amp<>+0(SB)/8, $0x2626262626262626 // &
DATA amp<>+8(SB)/8, $0x2626262626262626
GLOBL amp<>(SB), RODATA|NOPTR, $16

DATA gt<>+0(SB)/8, $0x3e3e3e3e3e3e3e3e // >
DATA gt<>+8(SB)/8, $0x3e3e3e3e3e3e3e3e
GLOBL gt<>(SB), RODATA|NOPTR, $16

DATA ltgt<>+0(SB)/8, $0x0202020202020202 // > but not <
DATA ltgt<>+8(SB)/8, $0x0202020202020202
GLOBL ltgt<>(SB), RODATA|NOPTR, $16

DATA back<>+0(SB)/8, $0x5c5c5c5c5c5c5c5c // backslash
DATA back<>+8(SB)/8, $0x5c5c5c5c5c5c5c5c
GLOBL back<>(SB), RODATA|NOPTR, $16

// func quote(dst, text []byte) (wrote, read int)
//
// SSE2, which every amd64 has. Sixteen bytes are copied before they are looked
// at; what was copied too much is overwritten. A signed comparison finds both
// what is below 0x20 and what is above 0x7f; < and > differ in one bit.
TEXT ·quote(SB), NOSPLIT, $0-64
	MOVQ dst_base+0(FP), DI
	MOVQ text_base+24(FP), SI
	MOVQ text_len+32(FP), CX
	LEAQ -16(SI)(CX*1), CX // the last place where sixteen bytes are left
	MOVOU space<>(SB), X1
	MOVOU quot<>(SB), X2
	MOVOU amp<>(SB), X3
	MOVOU gt<>(SB), X4
	MOVOU ltgt<>(SB), X5
	MOVOU back<>(SB), X6

loop:
	CMPQ SI, CX
	JHI  done
	MOVOU (SI), X0
	MOVOU X0, (DI)
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
	ADDQ $16, DI
	JMP  loop

found:
	BSFL AX, AX
	ADDQ AX, SI
	ADDQ AX, DI
	MOVBLZX (SI), BX
	CMPB BX, $0x22
	JEQ  escape
	CMPB BX, $0x5c
	JNE  done

escape:
	MOVB $0x5c, (DI)
	MOVB BX, 1(DI)
	INCQ SI
	ADDQ $2, DI
	JMP  loop

done:
	SUBQ dst_base+0(FP), DI
	SUBQ text_base+24(FP), SI
	MOVQ DI, wrote+48(FP)
	MOVQ SI, read+56(FP)
	RET
