//go:build !purego

#include "textflag.h"

// fold64 moves ACC 64 bytes towards the end and adds the 64 bytes at AT. K has the powers for that distance. Z8 is lost.
#define fold64(ACC, K, AT) \
	VPCLMULQDQ $0x11, K, ACC, Z8  \
	VPCLMULQDQ $0x00, K, ACC, ACC \
	VPTERNLOGQ $0x96, AT, Z8, ACC

// func foldLong(sum uint32, b []byte, k *folding) uint32
//
// b has at least 256 bytes, a multiple of 64.
TEXT ·foldLong(SB), NOSPLIT, $0-44
	MOVL sum+0(FP), AX
	MOVQ b_base+8(FP), SI
	MOVQ b_len+16(FP), CX
	MOVQ k+32(FP), DI
	NOTL AX

	// The sum of what comes before is added to the first bytes.
	VMOVD      AX, X4
	VMOVDQU64  (SI), Z0
	VPXORQ     Z4, Z0, Z0
	VMOVDQU64  64(SI), Z1
	VMOVDQU64  128(SI), Z2
	VMOVDQU64  192(SI), Z3
	VBROADCASTI32X4 (DI), Z5
	VBROADCASTI32X4 16(DI), Z6
	ADDQ       $256, SI
	SUBQ       $512, CX
	JL         one

four: // 256 bytes at a time
	fold64(Z0, Z5, (SI))
	fold64(Z1, Z5, 64(SI))
	fold64(Z2, Z5, 128(SI))
	fold64(Z3, Z5, 192(SI))
	ADDQ $256, SI
	SUBQ $256, CX
	JGE  four

one: // the four become one
	fold64(Z0, Z6, Z1)
	fold64(Z0, Z6, Z2)
	fold64(Z0, Z6, Z3)
	ADDQ $192, CX // what is left is CX+64
	JL   lanes

more: // 64 bytes at a time
	fold64(Z0, Z6, (SI))
	ADDQ $64, SI
	SUBQ $64, CX
	JGE  more

lanes: // the first three lanes are moved to the last
	VMOVDQU64     32(DI), Z7
	VEXTRACTI32X4 $3, Z0, X1
	VPCLMULQDQ    $0x11, Z7, Z0, Z8
	VPCLMULQDQ    $0x00, Z7, Z0, Z0
	VPXORQ        Z8, Z0, Z0
	VEXTRACTI64X4 $1, Z0, Y2
	VPXOR         Y2, Y0, Y0
	VEXTRACTI128  $1, Y0, X2
	VPXOR         X2, X0, X0
	VPXOR         X1, X0, X0

	// The sum of these 16 bytes is that of all so far.
	VMOVQ      X0, DX
	VPEXTRQ    $1, X0, BX
	VZEROUPPER
	XORL       AX, AX
	CRC32Q     DX, AX
	CRC32Q     BX, AX
	NOTL AX
	MOVL AX, ret+40(FP)
	RET
