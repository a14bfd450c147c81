package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The words that predecessor and successor exchange, a line each.
const (
	wordReady   = "ready"   // successor, with its version: configuration is good, I wait
	wordGo      = "go"      // predecessor: state and programs are free
	wordServing = "serving" // successor: requests are answered
	wordFailed  = "failed"  // successor, with the reason, quoted: I end
)

// control is one end of the connection between predecessor and successor. They exchange
// words over it, and then the predecessor sends it connections.
type control struct {
	conn *net.UnixConn
	in   *bufio.Reader // for words: nothing else comes before the last of them
}

// newControl takes f over.
func newControl(f *os.File) (*control, error) {
	conn, err := fileConn(f)
	if err != nil {
		return nil, fmt.Errorf("open control connection: %w", err)
	}
	return &control{conn: conn, in: bufio.NewReader(conn)}, nil
}

func (c *control) say(word, rest string) error {
	_, err := io.WriteString(c.conn, strings.TrimSpace(word+" "+rest)+"\n")
	switch {
	case hungUp(err):
		return errHungUp
	case err != nil:
		return fmt.Errorf("say %q: %w", word, err)
	}
	return nil
}

// errHungUp is how an end of the connection learns that the other process has ended.
var errHungUp = fmt.Errorf("it ended without a word: %w", io.EOF)

func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

// await reads one word and returns what came with it. Any other word, the end of the
// connection and the end of ctx are errors.
func (c *control) await(ctx context.Context, word string) (rest string, err error) {
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	line, err := c.in.ReadString('\n')
	got, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
	switch {
	case hungUp(err):
		return "", errHungUp
	case ctx.Err() != nil:
		return "", fmt.Errorf("wait for it to say %q: %w", word, context.Cause(ctx))
	case err != nil:
		return "", fmt.Errorf("wait for it to say %q: %w", word, err)
	case got == wordFailed:
		if text, err := strconv.Unquote(rest); err == nil {
			rest = text
		}
		return "", errors.New(rest)
	case got != word:
		return "", fmt.Errorf("wait for it to say %q: it says %q", word, line)
	}
	return rest, nil
}

// dial makes a connection, hands the other end to the peer and returns this one.
func (c *control) dial(ctx context.Context) (net.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	mine, theirs, err := socketPair()
	if err != nil {
		return nil, fmt.Errorf("connect to successor: %w", err)
	}
	defer theirs.Close() //nolint:errcheck // our copy
	conn, err := fileConn(mine)
	if err != nil {
		return nil, fmt.Errorf("connect to successor: %w", err)
	}
	if _, _, err := c.conn.WriteMsgUnix([]byte{0}, syscall.UnixRights(int(theirs.Fd())), nil); err != nil {
		return nil, errors.Join(fmt.Errorf("connect to successor: %w", err), conn.Close())
	}
	return conn, nil
}

// receive returns the next connection that the peer has dialled, or errHungUp.
func (c *control) receive() (net.Conn, error) {
	var b [1]byte
	oob := make([]byte, syscall.CmsgSpace(4))
	_, n, _, _, err := c.conn.ReadMsgUnix(b[:], oob)
	if hungUp(err) {
		return nil, errHungUp
	} else if err != nil {
		return nil, fmt.Errorf("receive connection: %w", err)
	}
	var fds []int
	messages, err := syscall.ParseSocketControlMessage(oob[:n])
	if err == nil && len(messages) == 1 {
		fds, err = syscall.ParseUnixRights(&messages[0])
	}
	if err != nil || len(fds) != 1 {
		return nil, fmt.Errorf("receive connection: %d of them: %w", len(fds), errors.Join(err, syscall.EBADMSG))
	}
	conn, err := fileConn(os.NewFile(uintptr(fds[0]), "passed on"))
	if err != nil {
		return nil, fmt.Errorf("receive connection: %w", err)
	}
	return conn, nil
}

// socketPair returns two connected sockets that no program inherits.
func socketPair() (a, b *os.File, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make socket pair: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "socket pair"), os.NewFile(uintptr(fds[1]), "socket pair"), nil
}

// fileConn makes a connection of f, which it closes.
func fileConn(f *os.File) (*net.UnixConn, error) {
	conn, err := net.FileConn(f)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	u, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("%s is no unix socket", f.Name()), conn.Close())
	}
	return u, nil
}

// duplicate returns a copy of a listener's descriptor. Unlike its own File method, that
// leaves the socket, which both copies share, in non-blocking mode when the copy is handed
// to another process: in blocking mode, an Accept of ours would no longer end when told.
func duplicate(ln net.Listener) (*os.File, error) {
	sc, ok := ln.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("listener of type %T has no descriptor", ln)
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return nil, err
	}
	var f *os.File
	var dupErr error
	err = rc.Control(func(fd uintptr) {
		var n int
		if n, dupErr = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0); dupErr == nil {
			f = os.NewFile(uintptr(n), "listener")
		}
	})
	if err = errors.Join(err, dupErr); err != nil {
		return nil, err
	}
	return f, nil
}
