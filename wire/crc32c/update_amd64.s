//go:build !purego

#include "textflag.h"

// func updateShort(sum uint32, b []byte) uint32
TEXT ·updateShort(SB), NOSPLIT, $0-36
	MOVL sum+0(FP), AX
	MOVQ b_base+8(FP), SI
	MOVQ b_len+16(FP), CX
	NOTL AX
	SUBQ $8, CX
	JL   tail

words:
	CRC32Q (SI), AX
	ADDQ   $8, SI
	SUBQ   $8, CX
	JGE    words

tail: // what is left is CX+8, fewer than 8: the three lowest bits say how many
	TESTB  $4, CX
	JEQ    two
	CRC32L (SI), AX
	ADDQ   $4, SI

two:
	TESTB  $2, CX
	JEQ    one
	CRC32W (SI), AX
	ADDQ   $2, SI

one:
	TESTB  $1, CX
	JEQ    done
	CRC32B (SI), AX

done:
	NOTL AX
	MOVL AX, ret+32(FP)
	RET
