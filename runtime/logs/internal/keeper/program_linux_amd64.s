#include "textflag.h"

// The keeper: a program of its own, whose code is copied from here into an ELF file.
// Descriptor 0 is its end of the connection with ten, 1 the directory of the pipes.
// R12 counts what it holds. On its stack:
//
//	  0  the request, then the reply: 8 bytes; later struct stat, 144
//	 16  struct iovec
//	 32  the control message with the descriptor, which is at 48
//	 64  struct msghdr; the length of the control message is at 104
//	160  struct timespec
TEXT ·keeperProgram(SB),NOSPLIT|NOFRAME,$0-0
	SUBQ	$192, SP
	MOVQ	$3, DI
	MOVL	$-1, SI
	MOVQ	$0, DX
	MOVQ	$436, AX // SYS_close_range
	SYSCALL
	MOVQ	$0x7065656b2d6e6574, AX // "ten-keep"
	MOVQ	AX, 0(SP)
	MOVQ	$0x7265, AX // "er"
	MOVQ	AX, 8(SP)
	MOVQ	$15, DI // PR_SET_NAME
	MOVQ	SP, SI
	MOVQ	$157, AX // SYS_prctl
	SYSCALL
	MOVQ	$0, R12
next:
	LEAQ	0(SP), AX
	MOVQ	AX, 16(SP)
	MOVQ	$8, 24(SP)
	MOVQ	$0, 64(SP)
	MOVQ	$0, 72(SP)
	LEAQ	16(SP), AX
	MOVQ	AX, 80(SP)
	MOVQ	$1, 88(SP)
	LEAQ	32(SP), AX
	MOVQ	AX, 96(SP)
	MOVQ	$24, 104(SP)
	MOVQ	$0, 112(SP)
	MOVQ	$0, DI
	LEAQ	64(SP), SI
	MOVQ	$0, DX
	MOVQ	$47, AX // SYS_recvmsg
	SYSCALL
	CMPQ	AX, $-4 // EINTR
	JEQ	next
	CMPQ	AX, $8
	JNE	alone // ten has gone
	MOVQ	0(SP), DI
	CMPQ	DI, $0
	JGE	drop
	MOVQ	$-1, AX
	CMPQ	104(SP), $20
	JLT	reply // no room for another descriptor
	MOVL	48(SP), AX
	INCQ	R12
	JMP	reply
drop:
	MOVQ	$3, AX // SYS_close
	SYSCALL
	CMPQ	AX, $0
	JNE	reply
	DECQ	R12
reply:
	MOVQ	AX, 0(SP)
	MOVQ	$0, DI
	MOVQ	SP, SI
	MOVQ	$8, DX
	MOVQ	$0x4000, R10 // MSG_NOSIGNAL
	MOVQ	$0, R8
	MOVQ	$0, R9
	MOVQ	$44, AX // SYS_sendto
	SYSCALL
	JMP	next
alone:
	CMPQ	R12, $0
	JEQ	end
	MOVQ	$1, DI
	MOVQ	SP, SI
	MOVQ	$5, AX // SYS_fstat
	SYSCALL
	CMPQ	AX, $0
	JNE	sleep
	CMPQ	16(SP), $0 // st_nlink
	JEQ	end
sleep:
	MOVQ	$1, 160(SP)
	MOVQ	$0, 168(SP)
	MOVQ	$0, DI
	MOVQ	$0, SI
	LEAQ	160(SP), DX
	MOVQ	$0, R10
	MOVQ	$0, R8
	MOVQ	$271, AX // SYS_ppoll
	SYSCALL
	JMP	alone
end:
	MOVQ	$0, DI
	MOVQ	$231, AX // SYS_exit_group
	SYSCALL
	INT	$3

// func keeperCode() uintptr
TEXT ·keeperCode(SB),NOSPLIT,$0-8
	LEAQ	·keeperProgram(SB), AX
	MOVQ	AX, ret+0(FP)
	RET
