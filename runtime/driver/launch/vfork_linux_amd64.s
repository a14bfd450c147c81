#include "textflag.h"

// func vfork(flags, pidfd uintptr) (pid, errno uintptr)
//
// clone(flags, NULL, pidfd, NULL, 0). Parent and child return on the same stack, the
// child first; what it calls next overwrites the return address above the stack
// pointer, so that address waits in a register, of which each of the two has its own.
TEXT ·vfork(SB),NOSPLIT|NOFRAME,$0-32
	MOVQ	flags+0(FP), DI
	MOVQ	pidfd+8(FP), DX
	MOVQ	$0, SI
	MOVQ	$0, R10
	MOVQ	$0, R8
	MOVQ	$0, R9
	MOVQ	$56, AX // SYS_clone
	POPQ	R12
	SYSCALL
	PUSHQ	R12
	CMPQ	AX, $0xfffffffffffff001
	JLS	ok
	MOVQ	$-1, pid+16(FP)
	NEGQ	AX
	MOVQ	AX, errno+24(FP)
	RET
ok:
	MOVQ	AX, pid+16(FP)
	MOVQ	$0, errno+24(FP)
	RET

// func vforkInit(e *initExec) (result uintptr)
//
// vfork once more, and return in the new child only, with 0; or with -errno and no
// child. The caller, which is process 1, goes on without the stack, since the child has
// written over it: execveat(e.args…), then exit.
TEXT ·vforkInit(SB),NOSPLIT|NOFRAME,$0-16
	MOVQ	e+0(FP), R13
	MOVQ	$0x4111, DI // CLONE_VM|CLONE_VFORK|SIGCHLD
	MOVQ	$0, SI
	MOVQ	$0, DX
	MOVQ	$0, R10
	MOVQ	$0, R8
	MOVQ	$56, AX // SYS_clone
	POPQ	R12
	SYSCALL
	CMPQ	AX, $0
	JGT	parent
	PUSHQ	R12
	MOVQ	AX, result+8(FP)
	RET
parent:
	MOVQ	0(R13), DI
	MOVQ	8(R13), SI
	MOVQ	16(R13), DX
	MOVQ	24(R13), R10
	MOVQ	32(R13), R8
	MOVQ	$322, AX // SYS_execveat
	SYSCALL
	NEGQ	AX
	MOVQ	AX, 40(R13)
	MOVQ	$126, DI
	MOVQ	$231, AX // SYS_exit_group
	SYSCALL
	INT	$3

// The init: a program of its own, whose code is copied from here into an ELF file. It
// reaps until process 2 has ended and then ends as that did.
TEXT ·initProgram(SB),NOSPLIT|NOFRAME,$0-0
	SUBQ	$16, SP
again:
	MOVQ	$-1, DI
	MOVQ	SP, SI
	MOVQ	$0, DX
	MOVQ	$0, R10
	MOVQ	$61, AX // SYS_wait4
	SYSCALL
	CMPQ	AX, $-10 // ECHILD: never, but better than to spin
	JEQ	lost
	CMPQ	AX, $2
	JNE	again
	MOVL	0(SP), DI
	MOVL	DI, AX
	ANDL	$0x7f, AX
	JEQ	exited
	LEAL	128(AX), DI // killed by a signal
	JMP	leave
lost:
	MOVL	$127, DI
	JMP	leave
exited:
	SHRL	$8, DI
	ANDL	$0xff, DI
leave:
	MOVQ	$231, AX // SYS_exit_group
	SYSCALL
	INT	$3

// func initCode() uintptr
TEXT ·initCode(SB),NOSPLIT,$0-8
	LEAQ	·initProgram(SB), AX
	MOVQ	AX, ret+0(FP)
	RET
