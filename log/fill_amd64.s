//go:build !purego

#include "textflag.h"

// Registers: DI entry, R8 last, SI payloads, BX counts, R9 payloads left, DX payload, CX its size. The stamp's words:
// R10 kind, flags and skip; R11 term; R12 index; R13 offset; R15 time.

// func fillEntries(at, last unsafe.Pointer, payloads *[]byte, counts *uint32, n int, head *[48]byte) (left int, end unsafe.Pointer)
TEXT ·fillEntries(SB), NOSPLIT, $0-64
	MOVQ at+0(FP), DI
	MOVQ last+8(FP), R8
	MOVQ payloads+16(FP), SI
	MOVQ counts+24(FP), BX
	MOVQ n+32(FP), R9
	MOVQ head+40(FP), AX
	MOVL 8(AX), R10
	MOVQ 16(AX), R11
	MOVQ 24(AX), R12
	MOVQ 32(AX), R13
	MOVQ 40(AX), R15

entry:
	CMPQ DI, R8
	JHI  done
	MOVQ 8(SI), CX
	LEAQ -8(CX), AX
	CMPQ AX, $56
	JHI  done
	MOVQ (SI), DX
	MOVL (BX), AX
	MOVL CX, 4(DI)
	MOVL R10, 8(DI)
	MOVL AX, 12(DI)
	MOVQ R11, 16(DI)
	MOVQ R12, 24(DI)
	MOVQ R13, 32(DI)
	MOVQ R15, 40(DI)
	INCQ R12
	ADDQ AX, R13

	// The first and the last bytes of the payload, which may overlap.
	CMPQ  CX, $16
	JCS   upTo15
	MOVOU (DX), X0
	MOVOU -16(DX)(CX*1), X1
	CMPQ  CX, $32
	JHI   upTo64
	MOVOU X0, 48(DI)
	MOVOU X1, 32(DI)(CX*1)

next:
	LEAQ 48(DI)(CX*1), DI
	ADDQ $24, SI
	ADDQ $4, BX
	DECQ R9
	JNE  entry

done:
	MOVQ head+40(FP), AX
	MOVQ R12, 24(AX)
	MOVQ R13, 32(AX)
	MOVQ R9, left+48(FP)
	MOVQ DI, end+56(FP)
	RET

upTo15:
	MOVQ (DX), AX
	MOVQ -8(DX)(CX*1), DX
	MOVQ AX, 48(DI)
	MOVQ DX, 40(DI)(CX*1)
	JMP  next

upTo64:
	MOVOU 16(DX), X2
	MOVOU -32(DX)(CX*1), X3
	MOVOU X0, 48(DI)
	MOVOU X2, 64(DI)
	MOVOU X3, 16(DI)(CX*1)
	MOVOU X1, 32(DI)(CX*1)
	JMP   next
