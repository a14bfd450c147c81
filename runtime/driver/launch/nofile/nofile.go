//go:build linux && (amd64 || arm64)

// Package nofile remembers the limit on open files that this program was started with.
//
// Go raises the soft limit of its own process while package syscall is initialised, and
// gives the original back only to the programs that os/exec starts. Programs started
// otherwise must get it back too: a raised limit breaks those that use select(2) and
// slows those that close every possible descriptor.
//
// The original is read before package syscall touches it. That order is not luck: the
// language initialises packages sorted by import path, each as soon as its imports are
// done, this one imports nothing, and "github.com/…" sorts before "syscall".
package nofile

import "unsafe" // for linkname, and for the address of a variable

// Limit is a resource limit, as prlimit64(2) reads and writes it.
type Limit struct{ Soft, Hard uint64 }

var original, known = read()

// Original returns the limit that this process was started with; ok is false when the
// kernel would not tell.
func Original() (limit Limit, ok bool) { return original, known }

func read() (l Limit, ok bool) {
	const rlimitNofile = 7
	_, _, errno := rawSyscall6(sysPrlimit64, 0, rlimitNofile, 0, uintptr(unsafe.Pointer(&l)), 0, 0) //nolint:gosec // audited: memory that the parent keeps alive
	return l, errno == 0
}

//go:linkname rawSyscall6 syscall.RawSyscall6
//go:noescape
func rawSyscall6(trap, a1, a2, a3, a4, a5, a6 uintptr) (r1, r2, errno uintptr)
