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

// func updateEach(sums []uint32, bufs [][]byte, skip int)
//
// It is updateShort for each of bufs, at least one, behind its first skip bytes. No sum depends on another one, so the
// processor works on several at a time.
TEXT ·updateEach(SB), NOSPLIT, $0-56
	MOVQ sums_base+0(FP), DI
	MOVQ bufs_base+24(FP), BX
	MOVQ bufs_len+32(FP), R8
	MOVQ skip+48(FP), R9
	LEAQ 8(R9), R10

each:
	MOVL (DI), AX
	MOVQ (BX), SI
	MOVQ 8(BX), CX
	NOTL AX
	ADDQ R9, SI
	SUBQ R10, CX
	JL   tail

words:
	CRC32Q (SI), AX
	ADDQ   $8, SI
	SUBQ   $8, CX
	JGE    words

tail: // as in updateShort
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
	MOVL AX, (DI)
	ADDQ $4, DI
	ADDQ $24, BX
	DECQ R8
	JNE  each
	RET

// func sealHeads(b []byte, seed uint32)
//
// The pieces, too, do not depend on each other.
TEXT ·sealHeads(SB), NOSPLIT, $0-28
	MOVQ b_base+0(FP), SI
	MOVQ b_len+8(FP), CX
	MOVL seed+24(FP), BX
	ADDQ SI, CX
	NOTL BX

heads:
	CMPQ   SI, CX
	JAE    sealed
	MOVL   BX, AX
	MOVL   4(SI), DX
	CRC32Q 4(SI), AX
	CRC32Q 12(SI), AX
	CRC32Q 20(SI), AX
	CRC32Q 28(SI), AX
	CRC32Q 36(SI), AX
	CRC32Q 44(SI), AX
	NOTL   AX
	MOVL   AX, (SI)
	LEAQ   48(SI)(DX*1), SI
	JMP    heads

sealed:
	RET
