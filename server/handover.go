package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// envHandover tells a successor which descriptors it inherits, from 3 on: the control
// connection first, then the listeners by name.
const envHandover = "TENEMENT_HANDOVER"

const firstInherited = 3

// endedAnyway is how long a successor may take to end that has hung up.
const endedAnyway = time.Second

// predecessor is the process that this one takes over from. Once this one serves, the
// predecessor hands it connections over which it passes on the requests that still reach
// it; as a net.Listener, it is where they come from.
type predecessor struct {
	conn      *control
	listeners map[string]net.Listener
	left      chan struct{} // closed when it is gone
	leave     sync.Once
}

// inherit returns what a predecessor left this process: nil when there is none.
func inherit(lookup func(string) string) (*predecessor, error) {
	names := lookup(envHandover)
	if names == "" {
		return nil, nil
	}
	if err := os.Unsetenv(envHandover); err != nil {
		return nil, fmt.Errorf("inherit listeners: %w", err)
	}
	list := strings.Split(names, ",")
	for i := range 1 + len(list) { // first of all, or a program might inherit them too
		syscall.CloseOnExec(firstInherited + i)
	}
	conn, err := newControl(os.NewFile(firstInherited, "control"))
	if err != nil {
		return nil, err
	}
	p := &predecessor{conn: conn, listeners: map[string]net.Listener{}, left: make(chan struct{})}
	for i, name := range list {
		f := os.NewFile(uintptr(firstInherited+1+i), name)
		ln, err := net.FileListener(f)
		if err = errors.Join(err, f.Close()); err != nil {
			err = fmt.Errorf("inherit listener %q: %w", name, err)
			p.fail(err)
			return nil, err
		}
		p.listeners[name] = ln
	}
	return p, nil
}

// takeOver says that this process is ready and waits until the predecessor has let go.
// On a nil predecessor it returns at once.
func (p *predecessor) takeOver(ctx context.Context, version string) error {
	if p == nil {
		return nil
	}
	if err := p.conn.say(wordReady, version); err != nil {
		return err
	}
	_, err := p.conn.await(ctx, wordGo)
	return err
}

// release tells the predecessor that it may end.
func (p *predecessor) release() error {
	if p == nil {
		return nil
	}
	return p.conn.say(wordServing, "")
}

// fail tells the predecessor why this process can't take over.
func (p *predecessor) fail(cause error) {
	if p == nil {
		return
	}
	_ = p.conn.say(wordFailed, strconv.Quote(cause.Error())) // it may be gone
	_ = p.Close()
}

// lingers reports whether requests may be under way in the predecessor, for any instance.
func (p *predecessor) lingers(api.Ref) bool {
	if p == nil {
		return false
	}
	select {
	case <-p.left:
		return false
	default:
		return true
	}
}

// Accept implements net.Listener.
func (p *predecessor) Accept() (net.Conn, error) {
	conn, err := p.conn.receive()
	if errors.Is(err, errHungUp) {
		p.leave.Do(func() { close(p.left) })
		err = net.ErrClosed
	}
	return conn, err
}

// Close implements net.Listener.
func (p *predecessor) Close() error { return p.conn.conn.Close() }

// Addr implements net.Listener.
func (p *predecessor) Addr() net.Addr { return p.conn.conn.LocalAddr() }

// SetDeadline sets one for Accept.
func (p *predecessor) SetDeadline(t time.Time) error { return p.conn.conn.SetReadDeadline(t) }

// successor is a process that is to take over, seen from the one that started it.
type successor struct {
	cmd     *exec.Cmd
	pid     int
	version string // once it is ready
	conn    *control
}

// startSuccessor starts program with this process's environment and hands it the
// listeners. Its output goes where this process's goes.
func startSuccessor(program string, args []string, doors []*door) (_ *successor, err error) {
	mine, theirs, err := socketPair()
	if err != nil {
		return nil, fmt.Errorf("start successor: %w", err)
	}
	defer theirs.Close() //nolint:errcheck // our copy of the successor's end
	conn, err := newControl(mine)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("start successor: %w", err), conn.conn.Close())
		}
	}()
	s := &successor{conn: conn, cmd: exec.Command(program, args...)}
	s.cmd.ExtraFiles = []*os.File{theirs}
	var names []string
	for _, d := range doors {
		f, err := duplicate(d.Listener)
		if err != nil {
			return nil, fmt.Errorf("hand over listener %q: %w", d.name, err)
		}
		defer f.Close() //nolint:errcheck // our copy of the successor's listener
		s.cmd.ExtraFiles = append(s.cmd.ExtraFiles, f)
		names = append(names, d.name)
	}
	s.cmd.Env = append(os.Environ(), envHandover+"="+strings.Join(names, ","))
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	s.pid = s.cmd.Process.Pid
	return s, nil
}

// takeOver tells the successor that everything is free, and returns once it serves. A
// successor that fails, or does not when ctx ends, is gone afterwards.
func (s *successor) takeOver(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, successorServing)
	defer cancel()
	err := s.conn.say(wordGo, "")
	if err == nil {
		_, err = s.conn.await(ctx, wordServing)
	}
	if err != nil {
		return s.abandon(fmt.Errorf("the successor did not take over: %w", err))
	}
	return nil
}

// abandon ends the successor because of cause, and returns that with what else is known
// once it is gone.
func (s *successor) abandon(cause error) error {
	_ = s.conn.conn.Close()
	if !errors.Is(cause, errHungUp) {
		_ = s.cmd.Process.Kill() // fails if it has ended
		_ = s.cmd.Wait()
		return cause
	}
	// It has ended, or is about to: how is of interest.
	late := time.AfterFunc(endedAnyway, func() { _ = s.cmd.Process.Kill() })
	defer late.Stop()
	_ = s.cmd.Wait()
	return fmt.Errorf("%w (%s); what it printed is in the log of this server", cause, s.cmd.ProcessState)
}

// release tells the successor that nothing is under way here any more.
func (s *successor) release() {
	_ = s.conn.conn.Close()
	_ = s.cmd.Process.Release() // it outlives us
}
