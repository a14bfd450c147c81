package health

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tenement-fleet/tenement/api"
)

// sharing makes every socket one that may share its address.
var sharing = net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
	var err error
	return errors.Join(c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}), err)
}}

func listenShared(t *testing.T, address string) *net.TCPListener {
	t.Helper()
	l, err := sharing.Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.(*net.TCPListener)
}

func inodeOf(t *testing.T, l *net.TCPListener) uint64 {
	t.Helper()
	raw, err := l.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := raw.Control(func(fd uintptr) { err = unix.Fstat(int(fd), &st) }); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

// judgement answers for the program and keeps count.
type judgement struct {
	mu    sync.Mutex
	own   map[uint64]bool
	asked map[uint64]int
	first chan struct{} // closed when somebody was rejected
}

func newJudgement() *judgement {
	return &judgement{own: make(map[uint64]bool), asked: make(map[uint64]int), first: make(chan struct{})}
}

func (j *judgement) owns(inode uint64) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.asked[inode]++
	if !j.own[inode] && len(j.asked) == 1 && j.asked[inode] == 1 {
		close(j.first)
	}
	return j.own[inode]
}

func (j *judgement) check(t *testing.T) {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	for inode, n := range j.asked {
		if n != 1 {
			t.Errorf("asked %d times about inode %d", n, inode)
		}
	}
}

// A stranger who listens first does not count, and nobody is asked about him twice; the
// program counts once the stranger has no share of its address.
func TestStrangerListensFirst(t *testing.T) {
	for name, how := range map[string]method{"diag": methodDiag, "proc": methodProc} {
		for _, other := range []string{"127.0.0.1", "[::1]"} {
			t.Run(name+"/"+other, func(t *testing.T) { strangerFirst(t, with(t, how), other) })
		}
	}
}

func strangerFirst(t *testing.T, r *Readiness, other string) {
	stranger := listenShared(t, "127.0.0.1:0")
	_, port, _ := net.SplitHostPort(stranger.Addr().String())
	j := newJudgement()
	got := make(chan api.Endpoint, 1)
	go func() {
		ep, err := r.Wait(t.Context(), stranger.Addr().(*net.TCPAddr).Port, "", j.owns)
		if err != nil {
			t.Error(err)
		}
		got <- ep
	}()
	<-j.first
	for range 5 { // 50 looks
		looksPass(t, r)
	}
	// The program's socket, as another one beside it or as one that shares its address.
	var program *net.TCPListener
	j.mu.Lock() // until it is known which one it is
	program = listenShared(t, net.JoinHostPort(strings.Trim(other, "[]"), port))
	j.own[inodeOf(t, program)] = true
	j.mu.Unlock()
	if other == "127.0.0.1" {
		for range 5 {
			looksPass(t, r)
		}
		select {
		case ep := <-got:
			t.Fatalf("%v counts although half of its connections are a stranger's", ep)
		default:
		}
		_ = stranger.Close()
	}
	if ep := <-got; ep.Address != program.Addr().String() {
		t.Errorf("got %v, want %v", ep, program.Addr())
	}
	j.check(t)
}

// The program listens after the stranger has gone.
func TestStrangerLeaves(t *testing.T) {
	for name, how := range map[string]method{"diag": methodDiag, "proc": methodProc} {
		t.Run(name, func(t *testing.T) {
			r := with(t, how)
			stranger := listenShared(t, "127.0.0.1:0")
			j := newJudgement()
			got := make(chan error, 1)
			go func() {
				_, err := r.Wait(t.Context(), stranger.Addr().(*net.TCPAddr).Port, "", j.owns)
				got <- err
			}()
			<-j.first
			_ = stranger.Close()
			looksPass(t, r)
			j.mu.Lock()
			program := listenShared(t, stranger.Addr().String())
			j.own[inodeOf(t, program)] = true
			j.mu.Unlock()
			if err := <-got; err != nil {
				t.Error(err)
			}
			j.check(t)
		})
	}
}

// A wait that ends in vain says why.
func TestStrangerInTheWay(t *testing.T) {
	r := with(t, methodDiag)
	stranger := listenShared(t, "127.0.0.1:0")
	j := newJudgement()
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	go func() {
		<-j.first
		looksPass(t, r)
		cancel(errTooLate)
	}()
	_, err := r.Wait(ctx, stranger.Addr().(*net.TCPAddr).Port, "", j.owns)
	if !errors.Is(err, errTooLate) || !strings.Contains(err.Error(), "another process listens on port") {
		t.Errorf("error %v", err)
	}
}

var errTooLate = errors.New("too late")

// While somebody is judged, which may take long, others are noticed.
func TestJudgingHoldsNobodyUp(t *testing.T) {
	r := with(t, methodDiag)
	l := listenShared(t, "127.0.0.1:0")
	asked, judged := make(chan struct{}), make(chan struct{})
	done := make(chan error, 1)
	go func() {
		_, err := r.Wait(t.Context(), l.Addr().(*net.TCPAddr).Port, "", func(uint64) bool {
			close(asked)
			<-judged
			return true
		})
		done <- err
	}()
	<-asked
	looksPass(t, r)
	close(judged)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestClaim(t *testing.T) {
	four, six := listener{loopback4, 4}, listener{loopback6, 6}
	own := map[uint64]bool{6: true, 7: true}
	owns := func(inode uint64) bool { return own[inode] }
	c := newClaim()
	for i, tc := range []struct {
		all  []listener
		news bool // there is something to judge
		want string
	}{
		{nil, false, ""},
		{[]listener{four}, true, ""},
		{[]listener{four}, false, ""},
		{[]listener{four, six}, true, "::1"},
		{[]listener{four, {loopback4, 7}}, true, ""},
		{[]listener{{loopback4, 7}}, true, "127.0.0.1"},
		{[]listener{{loopback4, 0}}, true, "127.0.0.1"}, // nobody can tell
	} {
		c.put(tc.all)
		select {
		case all := <-c.found:
			addr, ok := c.judge(all, owns)
			if !tc.news || ok != (tc.want != "") || ok && addr.String() != tc.want {
				t.Errorf("%d: judged %v: %v, %t", i, all, addr, ok)
			}
		default:
			if tc.news {
				t.Errorf("%d: not judged", i)
			}
		}
	}
}
