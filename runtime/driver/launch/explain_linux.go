//go:build amd64 || arm64

package launch

import (
	"bufio"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"
)

// explainExec says why a program could not be executed where its errno leaves that open:
// "no such file or directory" may mean the program's interpreter.
func explainExec(path string, errno syscall.Errno) error {
	info, err := os.Stat(path)
	if err != nil {
		return errno
	}
	switch {
	case info.IsDir():
		return fmt.Errorf("%w: it is a directory", errno)
	case errno == syscall.EACCES && info.Mode()&0o111 == 0:
		return fmt.Errorf("%w: the file is not executable (mode %#o)", errno, info.Mode().Perm())
	case errno == syscall.EACCES:
		return fmt.Errorf("%w: check the permissions of the file and its directories, and for a noexec mount", errno)
	case errno == syscall.ENOEXEC:
		return fmt.Errorf("%w: neither a program for this machine nor a script with a #! line", errno)
	}
	interpreter := interpreterOf(path)
	if interpreter == "" {
		return errno
	}
	if _, err := os.Stat(interpreter); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w: its interpreter %s is missing", errno, interpreter)
	}
	return errno
}

// interpreterOf returns the program that the kernel runs a file with: what its #! line
// or, in a dynamically linked ELF file, its program header names. "" for none.
func interpreterOf(path string) string {
	f, err := os.Open(path) //nolint:gosec // the program that the caller wants to run
	if err != nil {
		return ""
	}
	defer f.Close() //nolint:errcheck // only read from
	line, err := bufio.NewReader(io.LimitReader(f, 256)).ReadString('\n')
	if rest, ok := strings.CutPrefix(line, "#!"); ok {
		if words := strings.Fields(rest); len(words) > 0 {
			return words[0]
		}
		return ""
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return ""
	}
	program, err := elf.NewFile(f)
	if err != nil {
		return ""
	}
	for _, p := range program.Progs {
		if p.Type == elf.PT_INTERP && p.Filesz < 4096 {
			name, err := io.ReadAll(p.Open())
			if err == nil {
				return strings.TrimRight(string(name), "\x00")
			}
		}
	}
	return ""
}
