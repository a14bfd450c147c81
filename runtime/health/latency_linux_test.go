package health

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func monotonic() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err)
	}
	return ts.Nano()
}

// helperListen is the program whose listen is to be noticed. It goes around package net,
// whose own work would count as latency.
func helperListen(network, path string, micros int) (fd int) {
	var (
		family               = unix.AF_UNIX
		sa     unix.Sockaddr = &unix.SockaddrUnix{Name: path}
	)
	if network == "tcp" {
		family, sa = unix.AF_INET, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		panic(err)
	}
	if network == "unix" {
		// Where a socket lies is known beforehand: binding is part of what is awaited.
		fmt.Println(0)
		time.Sleep(time.Duration(micros) * time.Microsecond)
	}
	if err := unix.Bind(fd, sa); err != nil {
		panic(err)
	}
	if network == "tcp" {
		if sa, err = unix.Getsockname(fd); err != nil {
			panic(err)
		}
		fmt.Println(sa.(*unix.SockaddrInet4).Port)
		time.Sleep(time.Duration(micros) * time.Microsecond)
	}
	at := monotonic()
	if err := unix.Listen(fd, 16); err != nil {
		panic(err)
	}
	fmt.Println(at)
	return fd
}

// helperProcess is one.
type helperProcess struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startListener(tb testing.TB) *helperProcess {
	tb.Helper()
	exe, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), helperEnv+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	l := &helperProcess{cmd, in, bufio.NewReader(out)}
	tb.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	return l
}

// latency has the helper listen after a random time and returns how long after that
// Wait came back.
func (l *helperProcess) latency(tb testing.TB, r *Readiness, network string, owns func(uint64) bool) time.Duration {
	tb.Helper()
	path := "-"
	if network == "unix" {
		path = filepath.Join(tb.TempDir(), "s")
	}
	if _, err := fmt.Fprintf(l.in, "%s %s %d\n", network, path, 2000+rand.IntN(20_000)); err != nil {
		tb.Fatal(err)
	}
	port := int(l.number(tb))
	if port != 0 {
		path = ""
	}
	if _, err := r.Wait(tb.Context(), port, path, owns); err != nil {
		tb.Fatal(err)
	}
	noticed := monotonic()
	return time.Duration(noticed - l.number(tb))
}

// owns looks for a socket in the helper.
func (l *helperProcess) owns(inode uint64) bool {
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", l.cmd.Process.Pid))
	return slices.ContainsFunc(fds, func(fd string) bool {
		link, _ := os.Readlink(fd)
		return link == fmt.Sprintf("socket:[%d]", inode)
	})
}

func (l *helperProcess) number(tb testing.TB) int64 {
	tb.Helper()
	line, err := l.out.ReadString('\n')
	if err != nil {
		tb.Fatal(err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

func quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[int(q*float64(len(sorted)-1))]
}

// The bar of issue 2: a listen is noticed within a millisecond. The median of a batch
// is judged, and the best of a few batches counts, so that a busy machine can't fail it.
func TestNoticedWithinAMillisecond(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			r := NewReadiness(Config{})
			defer closeReadiness(t, r)
			l := startListener(t)
			best := time.Hour
			for batch := 0; batch < 10 && best > time.Millisecond; batch++ {
				var took []time.Duration
				for range 15 {
					took = append(took, l.latency(t, r, network, l.owns))
				}
				slices.Sort(took)
				best = min(best, quantile(took, 0.5))
			}
			t.Logf("median %v", best)
			if best > time.Millisecond {
				t.Errorf("median latency %v, want at most 1ms", best)
			}
		})
	}
}

func BenchmarkLatency(b *testing.B) {
	for _, network := range []string{"tcp", "tcp-owned", "unix"} {
		for _, others := range []int{0, 100, 500} {
			b.Run(fmt.Sprintf("%s/others=%d", network, others), func(b *testing.B) {
				network, owned := strings.CutSuffix(network, "-owned")
				owns := (func(uint64) bool)(nil)
				r := NewReadiness(Config{})
				stop := waitInVain(b, r, others)
				l := startListener(b)
				if owned {
					owns = l.owns
				}
				var took []time.Duration
				for b.Loop() {
					took = append(took, l.latency(b, r, network, owns))
				}
				stop()
				slices.Sort(took)
				b.ReportMetric(float64(quantile(took, 0.5).Microseconds()), "µs-median")
				b.ReportMetric(float64(quantile(took, 0.99).Microseconds()), "µs-p99")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// BenchmarkWaiting measures the share of one core that waiting costs, over a second. The
// floor is a loop that sleeps as often and does nothing.
func BenchmarkWaiting(b *testing.B) {
	b.Run("floor", func(b *testing.B) {
		p, err := openProber(methodDiag, slog.New(slog.DiscardHandler))
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = p.close() }()
		cpu, start := cpuTime(b), time.Now()
		for b.Loop() {
			for begin := time.Now(); time.Since(begin) < time.Second; {
				p.pause(pauseFor(time.Since(begin), 0))
			}
		}
		b.ReportMetric(100*(cpuTime(b)-cpu).Seconds()/time.Since(start).Seconds(), "%cpu")
		b.ReportMetric(0, "ns/op")
	})
	for _, listeners := range []int{0, 1000} {
		for _, waiters := range []int{1, 4, 100, 500} {
			b.Run(fmt.Sprintf("waiters=%d/listeners=%d", waiters, listeners), func(b *testing.B) {
				open := make([]net.Listener, listeners)
				for i := range open {
					l, err := net.Listen("tcp", "127.0.0.1:0")
					if err != nil {
						b.Fatal(err)
					}
					open[i] = l
				}
				var used, wall time.Duration
				for b.Loop() {
					r := NewReadiness(Config{})
					stop := waitInVain(b, r, waiters)
					cpu, start := cpuTime(b), time.Now()
					time.Sleep(time.Second)
					used += cpuTime(b) - cpu
					wall += time.Since(start)
					stop()
				}
				for _, l := range open {
					_ = l.Close()
				}
				b.ReportMetric(100*used.Seconds()/wall.Seconds(), "%cpu")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// waitInVain makes n callers wait for ports and sockets that nobody binds, until the
// returned function closes r.
func waitInVain(tb testing.TB, r *Readiness, n int) func() {
	tb.Helper()
	done, dir := make(chan error, n), tb.TempDir()
	for i := range n {
		_, port := bindTCP(tb)
		path := filepath.Join(dir, strconv.Itoa(i), "s")
		if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
			tb.Fatal(err)
		}
		go func() {
			_, err := r.Wait(tb.Context(), port, path, nil)
			done <- err
		}()
	}
	return func() {
		closeReadiness(tb, r)
		for range n {
			<-done //nolint:errcheck // they end with ErrClosed
		}
	}
}

func cpuTime(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
