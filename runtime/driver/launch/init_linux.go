//go:build amd64 || arm64

package launch

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

// Init is a program of about a hundred bytes that serves as process 1 of a pid
// namespace: it reaps what is orphaned there until the real program, process 2, has
// ended, and ends with the same exit code, or 128 + n for signal n. The kernel then
// kills everything else in the namespace.
//
// Without it the real program would be process 1 itself, for which the kernel drops
// every signal that has no handler: a program that answers SIGTERM by restoring the
// default action and raising the signal again, as Node does, would never end.
type Init struct{ file *os.File }

// NewInit builds the program in anonymous memory.
func NewInit() (*Init, error) {
	const name = "ten-init"
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3 every memfd may be executed
		fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	}
	if err != nil {
		return nil, fmt.Errorf("create init program in memory (see sysctl vm.memfd_noexec): %w", err)
	}
	w := os.NewFile(uintptr(fd), name)
	defer w.Close() //nolint:errcheck // the error of Write counts
	if _, err := w.Write(initImage()); err != nil {
		return nil, fmt.Errorf("write init program: %w", err)
	}
	// A file that is open for writing can't be executed.
	r, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", fd))
	if err != nil {
		return nil, fmt.Errorf("open init program: %w", err)
	}
	return &Init{file: r}, nil
}

// Close frees the program; running copies stay.
func (p *Init) Close() error {
	if err := p.file.Close(); err != nil {
		return fmt.Errorf("close init program: %w", err)
	}
	return nil
}

// initExec is what process 1 needs to become the init: the arguments of execveat, and
// the errno when that fails. The assembly knows its layout.
type initExec struct {
	args  [5]uintptr
	errno uintptr
}

// spawn is the step in which the child leaves the init behind and goes on as its child.
func (p *Init) spawn(args, env []string) (Step, *initExec) {
	s := Step{what: "fork from the init of the pid namespace"}
	e := &initExec{args: [5]uintptr{p.file.Fd(), s.text(""), s.list(args), s.list(env), unix.AT_EMPTY_PATH}}
	s.refs = append(s.refs, p)
	s.calls = []call{{init: e}}
	return s, e
}

// initImage is the init as an ELF file: two headers, then the code.
func initImage() []byte {
	const (
		base     = 0x400000
		pageSize = 0x10000 // the largest that either architecture uses
		codeSize = 256     // what follows the code's end is never reached
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
	code := initCode()
	b.Write(unsafe.Slice(*(**byte)(unsafe.Pointer(&code)), codeSize)) //nolint:gosec // audited: memory that the parent keeps alive
	return b.Bytes()
}

// initCode returns the address of the init's code in this program.
func initCode() uintptr

// vforkInit splits the path of the child; see the assembly.
//
//go:noescape
func vforkInit(e *initExec) (result uintptr)
