//go:build amd64 || arm64

// Package tiny turns a few instructions of this program's own text into a program of its
// own: an ELF file of one page that exists in anonymous memory only.
//
// It is for processes that do one simple thing for as long as an instance or a server
// lives, where a copy of this binary would cost megabytes and milliseconds, and a helper
// on disk would have to be installed, found and kept in step. The instructions are a
// function in assembly that uses nothing but its registers, its stack and system calls.
package tiny

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// New makes the program whose instructions are at code, the address of an assembly
// function without frame that ends the process by itself. The file can be executed by
// its descriptor and is not open for writing. name is seen in /proc/PID/exe, behind
// "/memfd:".
func New(name string, code uintptr) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3 every memfd may be executed
		fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	}
	if err != nil {
		return nil, fmt.Errorf("create program %s in memory (see sysctl vm.memfd_noexec): %w", name, err)
	}
	w := os.NewFile(uintptr(fd), name)
	defer w.Close() //nolint:errcheck // the error of Write counts
	if _, err := w.Write(Image(code)); err != nil {
		return nil, fmt.Errorf("write program %s: %w", name, err)
	}
	// A file that is open for writing can't be executed.
	r, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return nil, fmt.Errorf("open program %s: %w", name, err)
	}
	return r, nil
}

// Image returns the program as an ELF file: two headers, then the code.
func Image(code uintptr) []byte {
	const (
		base     = 0x400000
		pageSize = 0x10000 // the largest that either architecture uses
		codeSize = 512     // what follows the code's end is never reached
		ehsize   = 64
		phsize   = 56
		entry    = ehsize + 2*phsize
	)
	machine := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[runtime.GOARCH]
	header := elf.Header64{
		Ident: [elf.EI_NIDENT]byte{
			0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT),
		},
		Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT),
		Entry: base + entry, Phoff: ehsize, Ehsize: ehsize, Phentsize: phsize, Phnum: 2,
	}
	const size = entry + codeSize
	segments := [2]elf.Prog64{
		{
			Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X),
			Vaddr: base, Paddr: base, Filesz: size, Memsz: size, Align: pageSize,
		},
		{Type: uint32(elf.PT_GNU_STACK), Flags: uint32(elf.PF_R | elf.PF_W), Align: 16},
	}
	var b bytes.Buffer
	_ = binary.Write(&b, binary.LittleEndian, header) // a bytes.Buffer never fails
	_ = binary.Write(&b, binary.LittleEndian, segments)
	b.Write(unsafe.Slice(*(**byte)(unsafe.Pointer(&code)), codeSize)) //nolint:gosec // audited: text of this program
	return b.Bytes()
}
