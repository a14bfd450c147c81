package health

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tenement-fleet/tenement/api"
)

var methods = map[string]method{"diag": methodDiag, "proc": methodProc, "connect": methodConnect}

// with returns a Readiness that starts at the given method.
func with(t *testing.T, how method) *Readiness {
	t.Helper()
	r := NewReadiness(Config{})
	r.how = how
	t.Cleanup(func() { closeReadiness(t, r) })
	return r
}

func TestTCPAddresses(t *testing.T) {
	for name, how := range methods {
		for _, tc := range []struct {
			network, bind, want string
		}{
			{"tcp4", "127.0.0.1", "127.0.0.1"},
			{"tcp4", "0.0.0.0", "127.0.0.1"},
			{"tcp6", "::1", "::1"},
			{"tcp6", "::", "::1"}, // tcp6 is IPv6 only
			{"tcp", "::", ""},     // dual-stack: either loopback will do
			{"tcp4", "127.0.0.2", "127.0.0.2"},
		} {
			t.Run(name+"/"+tc.network+"/"+tc.bind, func(t *testing.T) {
				if how == methodConnect && tc.bind == "127.0.0.2" {
					t.Skip("connection attempts go to the loopback address alone")
				}
				l, err := net.Listen(tc.network, net.JoinHostPort(tc.bind, "0"))
				if err != nil {
					t.Skip(err)
				}
				defer func() { _ = l.Close() }()
				port := l.Addr().(*net.TCPAddr).Port
				ep, err := with(t, how).Wait(t.Context(), port, "", nil)
				if err != nil {
					t.Fatal(err)
				}
				if want := net.JoinHostPort(tc.want, fmt.Sprint(port)); tc.want != "" && ep.Address != want {
					t.Errorf("got %v, want %v", ep.Address, want)
				}
				if how != methodConnect && pending(t, l.(syscall.Conn)) {
					t.Error("the program sees a connection that nobody meant")
				}
				if err := NewChecker(CheckerConfig{}).Check(t.Context(), ep, ""); err != nil {
					t.Errorf("the endpoint does not accept: %v", err)
				}
			})
		}
	}
}

// pending reports whether a connection waits to be accepted.
func pending(t *testing.T, l syscall.Conn) bool {
	t.Helper()
	raw, err := l.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := raw.Control(func(fd uintptr) {
		n, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	}); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return n > 0
}

// A socket file alone is not enough; neither is a stale one that is replaced, nor a
// directory that is not there yet.
func TestSocketLife(t *testing.T) {
	for name, how := range map[string]method{"diag": methodDiag, "connect": methodProc} {
		t.Run(name, func(t *testing.T) {
			r := with(t, how)
			dir := filepath.Join(t.TempDir(), "later")
			path := filepath.Join(dir, "s")
			got := make(chan api.Endpoint, 1)
			go func() {
				ep, err := r.Wait(t.Context(), 0, path, nil)
				if err != nil {
					t.Error(err)
				}
				got <- ep
			}()
			notYet := func() {
				t.Helper()
				looksPass(t, r)
				select {
				case ep := <-got:
					t.Fatalf("ready too early: %v", ep)
				default:
				}
			}
			notYet()
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			bind(t, path) // stale: bound by somebody who will never listen
			notYet()
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			fd := bind(t, path)
			notYet()
			if err := unix.Listen(fd, 8); err != nil {
				t.Fatal(err)
			}
			if ep := <-got; ep != unixEndpoint(path) {
				t.Errorf("got %v", ep)
			}
			if fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}; how == methodDiag {
				if n, err := unix.Poll(fds, 0); n != 0 || err != nil {
					t.Errorf("the program sees a connection that nobody meant (%d, %v)", n, err)
				}
			}
		})
	}
}

// looksPass returns after r has looked a few more times.
func looksPass(t *testing.T, r *Readiness) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range 10 { // each newcomer's port is found by a look that starts after it came
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Wait(ctx, l.Addr().(*net.TCPAddr).Port, "", nil); err != nil {
			t.Fatal(err)
		}
		_ = l.Close()
	}
}

func bind(t *testing.T, path string) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	return fd
}

// bindTCP reserves a port without listening on it.
func bindTCP(tb testing.TB) (fd, port int) {
	tb.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		tb.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		tb.Fatal(err)
	}
	return fd, sa.(*unix.SockaddrInet4).Port
}

// Many wait at once; whatever the order in which their ports and sockets open, each
// gets its own, and the watcher ends with the last.
func TestManyWaiters(t *testing.T) {
	r := with(t, methodDiag)
	dir := t.TempDir()
	var wg sync.WaitGroup
	for i := range 200 {
		tcp, port := bindTCP(t)
		path := filepath.Join(dir, fmt.Sprint("s", i))
		local := bind(t, path)
		wg.Go(func() {
			fd, want := tcp, tcpEndpoint(loopback4, port)
			if i%2 == 1 {
				fd, want = local, unixEndpoint(path)
			}
			wg.Go(func() {
				if err := unix.Listen(fd, 8); err != nil {
					panic(err) // else the test would hang
				}
			})
			if ep, err := r.Wait(t.Context(), port, path, nil); err != nil || ep != want {
				t.Errorf("waiter %d got %v, %v, want %v", i, ep, err, want)
			}
		})
	}
	wg.Wait()
	r.loop.Wait()
	if r.watching || len(r.incoming) > 0 || len(r.prober.socks.byWD) > 0 {
		t.Error("the watcher has not ended")
	}
}

// A watched directory may be moved away and made anew, and a socket renamed into place.
func TestSocketDirectoryReplaced(t *testing.T) {
	r := with(t, methodDiag)
	root := t.TempDir()
	dir := filepath.Join(root, "run")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	got := make(chan error, 1)
	go func() {
		_, err := r.Wait(t.Context(), 0, filepath.Join(dir, "s"), nil)
		got <- err
	}()
	looksPass(t, r)
	if err := os.Rename(dir, filepath.Join(root, "old")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(root, "tmp"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if err := os.Rename(filepath.Join(root, "tmp"), filepath.Join(dir, "s")); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Error(err)
	}
}

// A filesystem whose inodes unix_diag shows differently is covered by connecting.
func TestSocketUnknownToDiag(t *testing.T) {
	s := openSocks(nil, NewReadiness(Config{}).log)
	defer func() { _ = s.close() }()
	path := filepath.Join(t.TempDir(), "s")
	w := &waiter{socket: path}
	s.enter(w)
	defer s.leave(w)
	fd := bind(t, path)
	s.read()
	if got := s.listening([]*waiter{w}); len(got) != 0 {
		t.Error("bound, but not listening, counts as ready")
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	for range 3 { // the third finds the backlog full
		if got := s.listening([]*waiter{w}); len(got) != 1 {
			t.Error("not noticed")
		}
	}
}

func TestFallBack(t *testing.T) {
	p, err := openProber(methodDiag, NewReadiness(Config{}).log)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = p.close() }()
	if p.how != methodDiag {
		t.Skip("this kernel has no sock_diag")
	}
	// The socket breaks under way: the next look goes on without it.
	if err := p.diag.close(); err != nil {
		t.Fatal(err)
	}
	if p.diag.fd, err = unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	w := &waiter{port: l.Addr().(*net.TCPAddr).Port, ready: make(chan api.Endpoint, 1)}
	for range 2 {
		p.probe([]*waiter{w})
	}
	if p.how != methodProc || len(w.ready) != 1 {
		t.Errorf("method %d, %d found, want /proc to have found 1", p.how, len(w.ready))
	}
}

const procNet = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:07E8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 575 1 0 100 0 0 10 0
   1: 0100007F:7531 0100007F:C1BB 01 00000000:00000000 00:00000000 00000000     0        0 0 3 0
   2: 0200007F:7532 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 0 3 0
   3: 00000000000000000000000001000000:7533 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0
   4: 00000000000000000000000000000000:7534 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0
   5: zz:7534 x 0A
   6: 00:10000 x 0A
`

func TestParseProcNet(t *testing.T) {
	var got []string
	err := parseProcNet(strings.NewReader(procNet), func(port int, l listener) {
		got = append(got, fmt.Sprint(netip.AddrPortFrom(l.addr, uint16(port)), "/", l.inode))
	})
	want := "127.0.0.1:2024/575 127.0.0.2:30002/0 [::1]:30003/0 [::1]:30004/0"
	if err != nil || strings.Join(got, " ") != want {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

func FuzzParseProcNet(f *testing.F) {
	f.Add([]byte(procNet))
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = parseProcNet(strings.NewReader(string(b)), func(port int, l listener) {
			if port < 0 || port > 65535 || !l.addr.IsValid() || l.addr.IsUnspecified() {
				t.Errorf("hit with %d, %v", port, l)
			}
		})
	})
}
