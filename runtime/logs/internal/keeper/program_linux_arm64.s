#include "textflag.h"

// The keeper: a program of its own, whose code is copied from here into an ELF file.
// Descriptor 0 is its end of the connection with ten, 1 the directory of the pipes.
// R19 counts what it holds. On its stack:
//
//	  0  the request, then the reply: 8 bytes; later struct stat, 128
//	 16  struct iovec
//	 32  the control message with the descriptor, which is at 48
//	 64  struct msghdr; the length of the control message is at 104
//	160  struct timespec
TEXT ·keeperProgram(SB),NOSPLIT|NOFRAME,$0-0
	SUB	$192, RSP
	MOVD	$3, R0
	MOVW	$-1, R1
	MOVD	$0, R2
	MOVD	$436, R8 // SYS_close_range
	SVC
	MOVD	$0x7065656b2d6e6574, R0 // "ten-keep"
	MOVD	R0, 0(RSP)
	MOVD	$0x7265, R0 // "er"
	MOVD	R0, 8(RSP)
	MOVD	$15, R0 // PR_SET_NAME
	MOVD	RSP, R1
	MOVD	$167, R8 // SYS_prctl
	SVC
	MOVD	$0, R19
next:
	MOVD	RSP, R0
	MOVD	R0, 16(RSP)
	MOVD	$8, R1
	MOVD	R1, 24(RSP)
	MOVD	ZR, 64(RSP)
	MOVD	ZR, 72(RSP)
	ADD	$16, R0, R1
	MOVD	R1, 80(RSP)
	MOVD	$1, R1
	MOVD	R1, 88(RSP)
	ADD	$32, R0, R1
	MOVD	R1, 96(RSP)
	MOVD	$24, R1
	MOVD	R1, 104(RSP)
	MOVD	ZR, 112(RSP)
	ADD	$64, R0, R1
	MOVD	$0, R0
	MOVD	$0, R2
	MOVD	$212, R8 // SYS_recvmsg
	SVC
	CMN	$4, R0 // EINTR
	BEQ	next
	CMP	$8, R0
	BNE	alone // ten has gone
	MOVD	0(RSP), R0
	CMP	$0, R0
	BGE	drop
	MOVD	$-1, R0
	MOVD	104(RSP), R1
	CMP	$20, R1
	BLT	reply // no room for another descriptor
	MOVWU	48(RSP), R0
	ADD	$1, R19
	B	reply
drop:
	MOVD	$57, R8 // SYS_close
	SVC
	CBNZ	R0, reply
	SUB	$1, R19
reply:
	MOVD	R0, 0(RSP)
	MOVD	$0, R0
	MOVD	RSP, R1
	MOVD	$8, R2
	MOVD	$0x4000, R3 // MSG_NOSIGNAL
	MOVD	$0, R4
	MOVD	$0, R5
	MOVD	$206, R8 // SYS_sendto
	SVC
	B	next
alone:
	CBZ	R19, end
	MOVD	$1, R0
	MOVD	RSP, R1
	MOVD	$80, R8 // SYS_fstat
	SVC
	CBNZ	R0, sleep
	MOVWU	20(RSP), R1 // st_nlink
	CBZ	R1, end
sleep:
	MOVD	$1, R1
	MOVD	R1, 160(RSP)
	MOVD	ZR, 168(RSP)
	MOVD	$0, R0
	MOVD	$0, R1
	ADD	$160, RSP, R2
	MOVD	$0, R3
	MOVD	$0, R4
	MOVD	$73, R8 // SYS_ppoll
	SVC
	B	alone
end:
	MOVD	$0, R0
	MOVD	$94, R8 // SYS_exit_group
	SVC
	BRK

// func keeperCode() uintptr
TEXT ·keeperCode(SB),NOSPLIT,$0-8
	MOVD	$·keeperProgram(SB), R0
	MOVD	R0, ret+0(FP)
	RET
