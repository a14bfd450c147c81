package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// envHandover tells a successor which descriptors it inherits, from 3 on: the control
// connection first, then the listeners by name.
const envHandover = "TENEMENT_HANDOVER"

// The words that predecessor and successor exchange, a line each.
const (
	wordReady   = "ready"   // successor: configuration is good, I wait
	wordGo      = "go"      // predecessor: state and programs are free
	wordServing = "serving" // successor: requests are answered
)

// predecessor is the successor's end of the control connection.
type predecessor struct{ conn *control }

// control exchanges words over a connected socket.
type control struct {
	conn net.Conn
	in   *bufio.Reader
}

func newControl(f *os.File) (*control, error) {
	conn, err := net.FileConn(f)
	if cerr := f.Close(); err == nil && cerr != nil {
		err = cerr
	}
	if err != nil {
		return nil, fmt.Errorf("open control connection: %w", err)
	}
	return &control{conn: conn, in: bufio.NewReader(conn)}, nil
}

func (c *control) say(word string) error {
	if _, err := io.WriteString(c.conn, word+"\n"); err != nil {
		return fmt.Errorf("say %q: %w", word, err)
	}
	return nil
}

// await reads one word; any other word, the end of the connection and the end of ctx
// are errors.
func (c *control) await(ctx context.Context, word string) error {
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	line, err := c.in.ReadString('\n')
	if err != nil {
		return fmt.Errorf("await %q: %w", word, errors.Join(context.Cause(ctx), err))
	}
	if got := strings.TrimSuffix(line, "\n"); got != word {
		return fmt.Errorf("await %q: got %q", word, got)
	}
	return nil
}

// inherit returns what a predecessor left this process: nil when there is none.
func inherit(lookup func(string) string) (*predecessor, map[string]net.Listener, error) {
	names := lookup(envHandover)
	if names == "" {
		return nil, nil, nil
	}
	if err := os.Unsetenv(envHandover); err != nil {
		return nil, nil, fmt.Errorf("inherit listeners: %w", err)
	}
	listeners := map[string]net.Listener{}
	for i, name := range strings.Split(names, ",") {
		syscall.CloseOnExec(4 + i)
		f := os.NewFile(uintptr(4+i), name)
		ln, err := net.FileListener(f)
		if cerr := f.Close(); err == nil && cerr != nil {
			err = cerr
		}
		if err != nil {
			return nil, nil, fmt.Errorf("inherit listener %q: %w", name, err)
		}
		listeners[name] = ln
	}
	syscall.CloseOnExec(3)
	conn, err := newControl(os.NewFile(3, "control"))
	if err != nil {
		return nil, nil, err
	}
	return &predecessor{conn: conn}, listeners, nil
}

// takeOver says that this process is ready and waits until the predecessor has let go.
// On a nil predecessor it returns at once.
func (p *predecessor) takeOver(ctx context.Context) error {
	if p == nil {
		return nil
	}
	if err := p.conn.say(wordReady); err != nil {
		return err
	}
	return p.conn.await(ctx, wordGo)
}

// release tells the predecessor that it may end.
func (p *predecessor) release() error {
	if p == nil {
		return nil
	}
	return errors.Join(p.conn.say(wordServing), p.conn.conn.Close())
}

// fail tells the predecessor why this process can't take over.
func (p *predecessor) fail(cause error) {
	if p == nil {
		return
	}
	text := strings.ReplaceAll(cause.Error(), "\n", "; ")
	_ = p.conn.say(text)
	_ = p.conn.conn.Close()
}

// successor is a process that is to take over, seen from the one that started it.
type successor struct {
	cmd   *exec.Cmd
	conn  *control
	ended chan struct{}
	once  sync.Once
}

// startSuccessor starts program with this process's arguments and environment and hands
// it the listeners. Its output goes where this process's goes.
func startSuccessor(program string, args []string, listeners []namedListener) (*successor, error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("start successor: %w", err)
	}
	mine, theirs := os.NewFile(uintptr(fds[0]), "control"), os.NewFile(uintptr(fds[1]), "control")
	defer theirs.Close() //nolint:errcheck // our copy of the successor's end
	conn, err := newControl(mine)
	if err != nil {
		return nil, err
	}

	s := &successor{conn: conn, ended: make(chan struct{})}
	s.cmd = exec.Command(program, args...)
	s.cmd.ExtraFiles = []*os.File{theirs}
	var names []string
	for _, l := range listeners {
		f, err := l.file()
		if err != nil {
			return nil, errors.Join(fmt.Errorf("hand over listener %q: %w", l.name, err), conn.conn.Close())
		}
		defer f.Close() //nolint:errcheck // our copy of the successor's listener
		s.cmd.ExtraFiles = append(s.cmd.ExtraFiles, f)
		names = append(names, l.name)
	}
	s.cmd.Env = append(os.Environ(), envHandover+"="+strings.Join(names, ","))
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := s.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start successor %s: %w", program, err), conn.conn.Close())
	}
	go func() {
		_ = s.cmd.Wait()
		close(s.ended)
	}()
	return s, nil
}

// abandon ends the successor and waits until it is gone.
func (s *successor) abandon() {
	s.once.Do(func() {
		_ = s.cmd.Process.Kill()
		<-s.ended
		_ = s.conn.conn.Close()
	})
}

// namedListener is a listener that a successor inherits.
type namedListener struct {
	name string
	net.Listener
}

// file returns a duplicate of the listener's descriptor.
func (l namedListener) file() (*os.File, error) {
	switch ln := l.Listener.(type) {
	case *net.TCPListener:
		return ln.File()
	case *net.UnixListener:
		return ln.File()
	default:
		return nil, fmt.Errorf("listener of type %T has no descriptor", l.Listener)
	}
}
