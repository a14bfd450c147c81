package capture

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/runtime/logs/internal/source"
	"github.com/tenement-fleet/tenement/runtime/logs/internal/spool"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBucket(100, 1000)
		b.refill(time.Now())
		if w := b.wait(5000); w != 0 {
			t.Errorf("a full bucket waits %v for more than fits", w)
		}
		b.take(1500)
		if w := b.wait(500); w != 10*time.Second {
			t.Errorf("wait = %v, want 10s", w)
		}
		time.Sleep(4 * time.Second)
		b.refill(time.Now())
		if w := b.wait(500); w != 6*time.Second {
			t.Errorf("wait = %v, want 6s", w)
		}
		b.refill(time.Now().Add(-time.Hour)) // the clock was set back
		if w := b.wait(500); w != 6*time.Second {
			t.Errorf("wait = %v, want 6s", w)
		}
		b.take(1 << 30)
		if w := b.wait(0); w != 10*time.Second {
			t.Errorf("the debt takes %v, want no more than 10s", w)
		}
	})
}

type rig struct {
	*Pump
	dir   string
	moved chan int
	total atomic.Int64

	noRoom atomic.Bool
}

func newRig(t *testing.T, limits Limits) *rig {
	t.Helper()
	r := &rig{dir: t.TempDir(), moved: make(chan int, 1000)}
	p, err := New(Config{
		Limits: limits, Logger: slog.New(slog.DiscardHandler), Now: time.Now, Backlog: r.total.Load, Full: func() {}, Room: func() bool { return !r.noRoom.Load() },
		Moved: func(_ *spool.Stream, n int) {
			r.total.Add(int64(n))
			if n > 0 {
				r.moved <- n
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.Pump = p
	t.Cleanup(p.Stop)
	return r
}

func (r *rig) add(t *testing.T, id string) (*Input, *spool.Stream, *os.File) {
	t.Helper()
	path := filepath.Join(r.dir, id+".pipe")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	dir, err := spool.OpenDir(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	s, err := dir.Open(source.Source{Ref: api.Ref{Service: "s", ID: id}, Level: api.Stdout}, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	in, err := r.Add(path, s, r.NewBudget())
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	w := os.NewFile(uintptr(fd), path)
	t.Cleanup(func() { _ = w.Close(); _ = s.Close() })
	return in, s, w
}

var generous = Limits{InstanceRate: 1 << 30, InstanceBurst: 1 << 30, NodeRate: 1 << 30, NodeBurst: 1 << 30, StreamSpool: 1 << 30, NodeSpool: 1 << 30}

func TestFinishTakesWhatIsLeft(t *testing.T) {
	r := newRig(t, generous)
	in, s, w := r.add(t, "a")
	if _, err := io.WriteString(w, "one\ntwo"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := r.Finish(in); err != nil {
			t.Fatal(err)
		}
	}
	buf := make([]byte, 100)
	if n, err := s.Read(buf); string(buf[:n]) != "one\ntwo\n" || err != nil {
		t.Errorf("spool holds %q, %v", buf[:n], err)
	}
	if r.total.Load() != 8 {
		t.Errorf("%d bytes told of", r.total.Load())
	}
}

// On a disk that is nearly full little may wait for the indexer; quiet programs pass.
func TestNoRoom(t *testing.T) {
	r := newRig(t, generous)
	in := &Input{budget: r.NewBudget(), stream: &spool.Stream{}, express: newBucket(expressRate, expressBurst)}
	r.noRoom.Store(true)
	r.total.Store(noRoomSpool)
	now := time.Now()
	if n, held := r.allow(in, now); n == 0 || held > 0 {
		t.Errorf("a quiet program is held back: %d bytes, %v", n, held)
	}
	in.express.take(expressBurst)
	if n, held := r.allow(in, now); held != retryFull {
		t.Errorf("a noisy one may print %d bytes", n)
	}
	r.total.Store(noRoomSpool - 1)
	if n, held := r.allow(in, now); n == 0 || held > 0 {
		t.Errorf("held back with little waiting: %d bytes, %v", n, held)
	}
}

// Every limit holds back a program that prints without end; none a quiet one but its own.
func TestLimits(t *testing.T) {
	const most = 256 << 10
	for name, change := range map[string]func(*Limits){
		"instance": func(l *Limits) { l.InstanceRate, l.InstanceBurst = 1, most },
		"node":     func(l *Limits) { l.NodeRate, l.NodeBurst = 1, most-expressBurst },
		"stream":   func(l *Limits) { l.StreamSpool = most },
		"spool":    func(l *Limits) { l.NodeSpool = most },
	} {
		t.Run(name, func(t *testing.T) {
			limits := generous
			change(&limits)
			r := newRig(t, limits)
			_, _, noisy := r.add(t, "noisy")
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				_, _ = noisy.Write(bytes.Repeat([]byte{'x'}, 2*most)) // blocks until the pipe has no reader's help
			}()
			got := 0
			for got < most-quantum {
				got += <-r.moved
			}
			_, _, quiet := r.add(t, "quiet")
			if _, err := io.WriteString(quiet, "hello"); err != nil {
				t.Fatal(err)
			}
			for n := 0; n != 5; got += n {
				n = <-r.moved
			}
			if got > most+2*quantum {
				t.Errorf("%d bytes passed", got)
			}
			select {
			case <-ended:
				t.Error("nothing held the program back")
			default:
			}
			// Emptying the pipe ends the writer.
			fd, err := unix.Open(noisy.Name(), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = unix.Close(fd) }()
			buf := make([]byte, 1<<20)
			for done := false; !done; {
				if _, err := unix.Read(fd, buf); err != nil && !errors.Is(err, unix.EAGAIN) {
					t.Fatal(err)
				}
				select {
				case <-ended:
					done = true
				case <-time.After(time.Millisecond):
				}
			}
		})
	}
}
