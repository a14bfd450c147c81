#include "textflag.h"

// func vfork(flags, pidfd uintptr) (pid, errno uintptr)
//
// clone(flags, NULL, pidfd, NULL, 0). Parent and child return on the same stack, the
// child first; the return address is in the link register, of which each of the two has
// its own.
TEXT ·vfork(SB),NOSPLIT,$0-32
	MOVD	flags+0(FP), R0
	MOVD	pidfd+8(FP), R2
	MOVD	$0, R1
	MOVD	$0, R3
	MOVD	$0, R4
	MOVD	$0, R5
	MOVD	$220, R8 // SYS_clone
	SVC
	CMN	$4095, R0
	BCC	ok
	MOVD	$-1, R4
	MOVD	R4, pid+16(FP)
	NEG	R0, R0
	MOVD	R0, errno+24(FP)
	RET
ok:
	MOVD	R0, pid+16(FP)
	MOVD	ZR, errno+24(FP)
	RET

// func vforkInit(e *initExec) (result uintptr)
//
// vfork once more, and return in the new child only, with 0; or with -errno and no
// child. The caller, which is process 1, goes on without the stack, since the child has
// written over it: execveat(e.args…), then exit.
TEXT ·vforkInit(SB),NOSPLIT,$0-16
	MOVD	e+0(FP), R9
	MOVD	$0x4111, R0 // CLONE_VM|CLONE_VFORK|SIGCHLD
	MOVD	$0, R1
	MOVD	$0, R2
	MOVD	$0, R3
	MOVD	$0, R4
	MOVD	$220, R8 // SYS_clone
	SVC
	CMP	$0, R0
	BGT	parent
	MOVD	R0, result+8(FP)
	RET
parent:
	MOVD	0(R9), R0
	MOVD	8(R9), R1
	MOVD	16(R9), R2
	MOVD	24(R9), R3
	MOVD	32(R9), R4
	MOVD	$281, R8 // SYS_execveat
	SVC
	NEG	R0, R0
	MOVD	R0, 40(R9)
	MOVD	$126, R0
	MOVD	$94, R8 // SYS_exit_group
	SVC
	BRK

// The init: a program of its own, whose code is copied from here into an ELF file. It
// reaps until process 2 has ended and then ends as that did.
TEXT ·initProgram(SB),NOSPLIT|NOFRAME,$0-0
	SUB	$16, RSP
again:
	MOVD	$-1, R0
	MOVD	RSP, R1
	MOVD	$0, R2
	MOVD	$0, R3
	MOVD	$260, R8 // SYS_wait4
	SVC
	CMN	$10, R0 // ECHILD: never, but better than to spin
	BEQ	lost
	CMP	$2, R0
	BNE	again
	MOVWU	0(RSP), R0
	AND	$0x7f, R0, R1
	CBZ	R1, exited
	ADD	$128, R1, R0 // killed by a signal
	B	leave
lost:
	MOVD	$127, R0
	B	leave
exited:
	LSR	$8, R0, R0
	AND	$0xff, R0, R0
leave:
	MOVD	$94, R8 // SYS_exit_group
	SVC
	BRK

// func initCode() uintptr
TEXT ·initCode(SB),NOSPLIT,$0-8
	MOVD	$·initProgram(SB), R0
	MOVD	R0, ret+0(FP)
	RET
