package transport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// wire stands between two nodes and can be cut.
type wire struct {
	ln net.Listener
	to string
	wg sync.WaitGroup

	mu     sync.Mutex
	conns  []net.Conn
	silent chan struct{} // open: nothing passes
}

func newWire(t testing.TB, to string) *wire {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{ln: ln, to: to, silent: make(chan struct{})}
	close(w.silent)
	w.wg.Go(w.accept)
	t.Cleanup(func() {
		_ = ln.Close()
		w.speak()
		w.reset()
		w.wg.Wait()
	})
	return w
}

func (w *wire) accept() {
	for {
		in, err := w.ln.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", w.to)
		if err != nil {
			_ = in.Close()
			continue
		}
		w.mu.Lock()
		w.conns = append(w.conns, in, out)
		w.mu.Unlock()
		w.wg.Go(func() { w.copy(in, out) })
		w.wg.Go(func() { w.copy(out, in) })
	}
}

func (w *wire) copy(to, from net.Conn) {
	defer to.Close()
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		w.mu.Lock()
		silent := w.silent
		w.mu.Unlock()
		<-silent
		if err != nil {
			return
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

// hush lets connections be made but nothing through, as a stopped process does.
func (w *wire) hush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.silent = make(chan struct{})
}

func (w *wire) speak() {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.silent:
	default:
		close(w.silent)
	}
}

// reset ends all connections as a machine does whose process has been killed.
func (w *wire) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
	}
	w.conns = nil
}

func within(t testing.TB, c *http.Client, d time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://peer/ping", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
	}
	return err
}

func TestCutWire(t *testing.T) {
	w, s := newWorld(), newSecret(t)
	started := make(chan struct{}, 1)
	a := w.start(t, id(0), newKeyring(t, s))
	b := w.start(t, id(1), newKeyring(t, s), func(c *Config) {
		c.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/hang" {
				started <- struct{}{}
				<-r.Context().Done()
				return
			}
			echo(w, r)
		})
	})
	cable := newWire(t, b.Addr().String())
	w.move(id(1), cable.ln.Addr().String())
	reach(t, a, id(1))

	// Silence on a connection that is open, then on new ones: both are a time-out.
	cable.hush()
	for range 2 {
		if err := within(t, a.Prober(id(1)), 50*time.Millisecond); !errors.Is(err, ErrTimeout) {
			t.Errorf("silence: got %v", err)
		}
		if err := within(t, a.Client(id(1)), 50*time.Millisecond); !errors.Is(err, ErrTimeout) {
			t.Errorf("silence: got %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if _, err := a.DialHTTP1(ctx, id(1)); !errors.Is(err, ErrTimeout) {
			t.Errorf("silence: got %v", err)
		}
		cancel()
		a.Disconnect(id(1))
	}
	cable.speak()
	reach(t, a, id(1))

	// A reset while a request is under way.
	hang := make(chan error, 1)
	go func() {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://peer/hang", nil)
		_, err := a.Client(id(1)).Do(req)
		hang <- err
	}()
	<-started
	cable.reset()
	if err := <-hang; !errors.Is(err, ErrRefused) {
		t.Errorf("reset: got %v", err)
	}
	reach(t, a, id(1)) // over a new connection

	// Nobody listens any more.
	_ = cable.ln.Close()
	a.Disconnect(id(1))
	if err := within(t, a.Client(id(1)), time.Minute); !errors.Is(err, ErrRefused) {
		t.Errorf("refused: got %v", err)
	}
	// What the caller cancels says nothing about the peer.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.DialHTTP1(ctx, id(1)); KindOf(err) != "" || !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v, kind %v", err, KindOf(err))
	}
}

// Votes must not be lost to streams that died while nobody looked.
func TestRaftCallsSurviveDeadStreams(t *testing.T) {
	w, s := newWorld(), newSecret(t)
	a, b := w.start(t, id(0), newKeyring(t, s)), w.start(t, id(1), newKeyring(t, s))
	cable := newWire(t, b.Addr().String())
	w.move(id(1), cable.ln.Addr().String())
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		for {
			select {
			case rpc := <-b.RaftTransport().Consumer():
				rpc.Respond(&raft.RequestVoteResponse{Granted: true}, nil)
			case <-ctx.Done():
				return
			}
		}
	})
	vote := func() error {
		var resp raft.RequestVoteResponse
		err := a.RaftTransport().RequestVote(raft.ServerID(id(1)), "", &raft.RequestVoteRequest{Term: 1}, &resp)
		if err == nil && !resp.Granted {
			err = errors.New("not granted")
		}
		return err
	}
	var votes sync.WaitGroup
	for range 8 { // fill the pool of streams
		votes.Go(func() {
			if err := vote(); err != nil {
				t.Error(err)
			}
		})
	}
	votes.Wait()
	cable.reset()
	if err := vote(); err != nil {
		t.Errorf("after a restart of the peer: %v", err)
	}
	_ = cable.ln.Close()
	cable.reset()
	if err := vote(); !errors.Is(err, ErrRefused) {
		t.Errorf("a dead peer: got %v", err)
	}
	// The library's streams are kept by id: another node at the address gets none of them.
	w.move(id(2), b.Addr().String())
	if err := a.RaftTransport().RequestVote(raft.ServerID(id(2)), raft.ServerAddress(b.Addr().String()), &raft.RequestVoteRequest{}, &raft.RequestVoteResponse{}); !errors.Is(err, ErrIdentity) {
		t.Errorf("another node's address: got %v", err)
	}
	// An address that only Raft knows is used.
	w.mu.Lock()
	delete(w.addresses, id(1))
	w.mu.Unlock()
	if err := a.RaftTransport().RequestVote(raft.ServerID(id(1)), raft.ServerAddress(b.Addr().String()), &raft.RequestVoteRequest{}, &raft.RequestVoteResponse{}); err != nil {
		t.Errorf("Raft's own address: %v", err)
	}
	// Raft goes, the port stays.
	if err := errors.Join(b.RaftTransport().Close(), b.RaftTransport().Close()); err != nil {
		t.Error(err)
	}
	w.move(id(1), b.Addr().String())
	reach(t, a, id(1))
	if err := vote(); KindOf(err) != ErrRefused {
		t.Errorf("a closed Raft: got %v", err)
	}
}

func TestKindOf(t *testing.T) {
	op := func(err error) error {
		return fmt.Errorf("wrapped: %w", &net.OpError{Op: "read", Err: os.NewSyscallError("read", err)})
	}
	for _, c := range []struct {
		err  error
		want Kind
	}{
		{nil, ""},
		{errors.New("other"), ""},
		{net.ErrClosed, ""},
		{context.Canceled, ""},
		{io.EOF, ErrRefused},
		{op(io.ErrUnexpectedEOF), ErrRefused},
		{op(syscall.ECONNREFUSED), ErrRefused},
		{op(syscall.ECONNRESET), ErrRefused},
		{op(syscall.EPIPE), ErrRefused},
		{op(syscall.EHOSTUNREACH), ErrUnreachable},
		{op(syscall.ENETUNREACH), ErrUnreachable},
		{op(syscall.ETIMEDOUT), ErrTimeout},
		{context.DeadlineExceeded, ErrTimeout},
		{os.ErrDeadlineExceeded, ErrTimeout},
		{&Error{Kind: ErrIdentity, Err: io.EOF}, ErrIdentity},
		{&Error{Err: errors.New("other")}, ""},
	} {
		if got := KindOf(c.err); got != c.want {
			t.Errorf("%v: got %v, want %v", c.err, got, c.want)
		}
	}
}
