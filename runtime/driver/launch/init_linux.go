//go:build amd64 || arm64

package launch

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/tenement-fleet/tenement/runtime/tiny"
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
	file, err := tiny.New("ten-init", initCode())
	if err != nil {
		return nil, err
	}
	return &Init{file: file}, nil
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

// initCode returns the address of the init's code in this program.
func initCode() uintptr

// vforkInit splits the path of the child; see the assembly.
//
//go:noescape
func vforkInit(e *initExec) (result uintptr)
