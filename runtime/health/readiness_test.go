package health

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

func TestPauseFor(t *testing.T) {
	for _, tc := range []struct{ age, cost, want time.Duration }{
		{0, 0, 400 * time.Microsecond},
		{100 * time.Millisecond, 20 * time.Microsecond, 400 * time.Microsecond},
		{200 * time.Millisecond, 0, 800 * time.Microsecond},
		{time.Second, 0, 1500 * time.Microsecond},
		{3 * time.Second, 0, 3 * time.Millisecond},
		{time.Hour, 0, 5 * time.Millisecond},
		{0, 250 * time.Microsecond, 2 * time.Millisecond},
		{0, time.Second, 5 * time.Millisecond},
	} {
		if got := pauseFor(tc.age, tc.cost); got != tc.want {
			t.Errorf("pauseFor(%v, %v) = %v, want %v", tc.age, tc.cost, got, tc.want)
		}
	}
}

func TestEstimate(t *testing.T) {
	var e estimate
	e.add(100)
	e.add(10_000) // an interruption
	if e > 120 {
		t.Errorf("one outlier moved the estimate to %d", e)
	}
	e.add(50)
	if e != 50 {
		t.Errorf("got %d after a cheaper measurement of 50", e)
	}
	for range 100 {
		e.add(10_000)
	}
	if e != 10_000 {
		t.Errorf("got %d after the cost rose to 10000 for good", e)
	}
}

func TestWaitRefuses(t *testing.T) {
	r := NewReadiness(Config{})
	defer closeReadiness(t, r)
	for _, port := range []int{0, -1, 65536} {
		if _, err := r.Wait(t.Context(), port, "", nil); err == nil {
			t.Errorf("port %d without a socket was accepted", port)
		}
	}
}

func TestWaitEnds(t *testing.T) {
	r := NewReadiness(Config{})
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("the program has ended")
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := r.Wait(ctx, 1, "", nil); !errors.Is(err, reason) {
			t.Errorf("got %v, want %v", err, reason)
		}
	})
	cancel(reason)
	wg.Wait()
	r.loop.Wait() // nobody waits any more: the goroutine ends by itself

	entered := make(chan struct{})
	wg.Go(func() {
		close(entered)
		if _, err := r.Wait(t.Context(), 1, "/nowhere/s", nil); !errors.Is(err, ErrClosed) {
			t.Errorf("got %v, want %v", err, ErrClosed)
		}
	})
	<-entered
	closeReadiness(t, r)
	wg.Wait()
	closeReadiness(t, r) // twice is once
	if _, err := r.Wait(t.Context(), 1, "", nil); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: got %v, want %v", err, ErrClosed)
	}
}

func TestSeveralWaitForOnePort(t *testing.T) {
	r := NewReadiness(Config{})
	defer closeReadiness(t, r)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			ep, err := r.Wait(t.Context(), l.Addr().(*net.TCPAddr).Port, "", nil)
			if want := (api.Endpoint{Network: "tcp", Address: l.Addr().String()}); err != nil || ep != want {
				t.Errorf("got %v, %v, want %v", ep, err, want)
			}
		})
	}
	wg.Wait()
}
