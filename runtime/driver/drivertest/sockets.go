//go:build linux

package drivertest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tenement-fleet/tenement/runtime/driver"
)

// listen is the program "listen": it has somebody listen and prints the socket's inode.
func listen(who string) error {
	switch who {
	case "self":
		return listenHere()
	case "child", "orphan":
		// Whoever listens ends with this process, which holds the other end for life.
		life, _, err := os.Pipe()
		if err != nil {
			return err
		}
		if who == "child" {
			return relay("listen member", life, false)
		}
		return relay("listen between", life, false)
	case "between":
		if err := relay("listen member", os.NewFile(3, "life"), true); err != nil {
			return err
		}
		syscall.Exit(0) // and leaves an orphan
	case "member":
		if err := listenHere(); err != nil {
			return err
		}
		_, _ = io.Copy(io.Discard, os.NewFile(3, "life"))
		syscall.Exit(0)
	}
	return fmt.Errorf("no listener %q", who)
}

func listenHere() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	inode, err := inodeOf(l)
	fmt.Println(inode)
	return err
}

// relay starts another program and prints the first line that it prints.
func relay(program string, life *os.File, session bool) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self) //nolint:gosec // the test binary
	cmd.Env = append(os.Environ(), EnvProgram+"="+program)
	cmd.Stderr, cmd.ExtraFiles = os.Stderr, []*os.File{life}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: session}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	fmt.Print(line)
	return err
}

func inodeOf(l net.Listener) (uint64, error) {
	raw, err := l.(*net.TCPListener).SyscallConn()
	if err != nil {
		return 0, err
	}
	var st unix.Stat_t
	var failed error
	err = raw.Control(func(fd uintptr) { failed = unix.Fstat(int(fd), &st) })
	return st.Ino, errors.Join(err, failed)
}

// sockets: a process knows its own and its descendants' sockets, orphans' included, from
// everybody else's.
func (s suite) sockets(t *testing.T) {
	d := s.Open(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // closed below
	stranger, err := inodeOf(l)
	if err != nil {
		t.Fatal(err)
	}
	var former uint64
	for _, who := range []string{"self", "child", "orphan"} {
		p := s.start(t, d, "listen "+who)
		owner, ok := p.Process.(driver.SocketOwner)
		if !ok {
			t.Skip("tells no sockets apart")
		}
		line, err := p.out.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		inode, err := strconv.ParseUint(strings.TrimSpace(line), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		s.ready(t, p)
		if owned, holder := owner.OwnsSocket(inode); !owned {
			t.Errorf("the socket of %s is held to be of %d", who, holder)
		}
		if owned, holder := owner.OwnsSocket(stranger); owned || holder != os.Getpid() {
			t.Errorf("a stranger's socket: owned %t, by %d; want by %d", owned, holder, os.Getpid())
		}
		if owned, holder := owner.OwnsSocket(former); owned || holder == 0 && former != 0 {
			t.Errorf("another instance's socket: owned %t, by %d", owned, holder)
		}
		recovered := s.recover(t, d, p.Handle())
		if owned, _ := recovered.(driver.SocketOwner).OwnsSocket(inode); !owned {
			t.Errorf("a recovered process does not know the socket of %s", who)
		}
		former = inode
	}
	_ = l.Close()
	p := s.start(t, d, "wait")
	if owned, holder := p.Process.(driver.SocketOwner).OwnsSocket(stranger); owned || holder != 0 {
		t.Errorf("nobody's socket: owned %t, by %d", owned, holder)
	}
}
