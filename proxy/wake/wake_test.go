package wake

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/tenement-fleet/tenement/api"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var ref = api.Ref{Service: "notes", ID: "a"}

// starter is a Start that the test lets go.
type starter struct {
	mu        sync.Mutex
	starts    int
	cancelled int
	release   chan error
}

func newStarter() *starter { return &starter{release: make(chan error)} }

func (s *starter) start(ctx context.Context, _ api.Ref) error {
	s.mu.Lock()
	s.starts++
	s.mu.Unlock()
	select {
	case err := <-s.release:
		return err
	case <-ctx.Done():
		s.mu.Lock()
		s.cancelled++
		s.mu.Unlock()
		return context.Cause(ctx)
	}
}

// waitAll lets n clients wait and returns the channel of their outcomes.
func waitAll(ctx context.Context, q *Queue, n int, limit time.Duration) chan error {
	out := make(chan error, n)
	for range n {
		go func() { out <- q.Wait(ctx, ref, limit) }()
	}
	synctest.Wait()
	return out
}

func TestOneStartForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStarter()
		q := New(Config{Start: s.start})
		defer q.Close()
		out := waitAll(t.Context(), q, 1000, time.Minute)
		if q.Waiting() != 1000 {
			t.Errorf("%d wait, want 1000", q.Waiting())
		}
		s.release <- nil
		for range 1000 {
			if err := <-out; err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if s.starts != 1 || q.Waiting() != 0 || len(q.calls) != 0 {
			t.Errorf("%d starts, %d waiting, %d calls; want 1, 0, 0", s.starts, q.Waiting(), len(q.calls))
		}
	})
}

func TestFailureReachesAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStarter()
		q := New(Config{Start: s.start})
		defer q.Close()
		out := waitAll(t.Context(), q, 10, time.Minute)
		s.release <- api.Errorf(api.CodeFailed, "exit 1")
		for range 10 {
			if err := <-out; api.CodeOf(err) != api.CodeFailed {
				t.Fatal(err)
			}
		}
		// The next one tries again.
		out = waitAll(t.Context(), q, 1, time.Minute)
		s.release <- nil
		if err := <-out; err != nil || s.starts != 2 {
			t.Errorf("after a failure: %v, %d starts", err, s.starts)
		}
	})
}

func TestQueueIsBounded(t *testing.T) {
	for _, tc := range []struct {
		name string
		cfg  Config
	}{
		{"per instance", Config{PerInstance: 5}},
		{"in all", Config{Total: 5}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStarter()
				tc.cfg.Start = s.start
				q := New(tc.cfg)
				defer q.Close()
				ctx, cancel := context.WithCancel(t.Context())
				out := waitAll(ctx, q, 5, time.Minute)
				err := q.Wait(t.Context(), ref, time.Minute)
				full, ok := errors.AsType[*api.Error](err)
				if !ok || full.Code != api.CodeUnavailable || full.RetryAfter <= 0 {
					t.Fatalf("sixth of five: %v, want unavailable with a time to retry", err)
				}
				cancel() // five clients gone: five places free
				for range 5 {
					if err := <-out; !errors.Is(err, context.Canceled) {
						t.Errorf("client gone: %v", err)
					}
				}
				out = waitAll(t.Context(), q, 5, time.Minute)
				s.release <- nil
				for range 5 {
					if err := <-out; err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}

func TestOneClientGoneDisturbsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStarter()
		q := New(Config{Start: s.start})
		defer q.Close()
		ctx, cancel := context.WithCancel(t.Context())
		first := waitAll(ctx, q, 1, time.Minute)
		rest := waitAll(t.Context(), q, 3, time.Minute)
		cancel()
		if err := <-first; !errors.Is(err, context.Canceled) {
			t.Errorf("the one that left: %v", err)
		}
		s.release <- nil
		for range 3 {
			if err := <-rest; err != nil {
				t.Error(err)
			}
		}
		if s.starts != 1 || s.cancelled != 0 {
			t.Errorf("%d starts, %d cancelled", s.starts, s.cancelled)
		}
	})
}

func TestAllClientsGoneCancelTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStarter()
		q := New(Config{Start: s.start})
		defer q.Close()
		ctx, cancel := context.WithCancel(t.Context())
		out := waitAll(ctx, q, 3, time.Minute)
		cancel()
		for range 3 {
			if err := <-out; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		}
		synctest.Wait()
		if s.cancelled != 1 {
			t.Error("the start goes on for nobody")
		}
		out = waitAll(t.Context(), q, 1, time.Minute)
		s.release <- nil
		if err := <-out; err != nil {
			t.Errorf("the next one: %v", err)
		}
	})
}

func TestTooLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStarter()
		q := New(Config{Start: s.start})
		defer q.Close()
		begin := time.Now()
		early := waitAll(t.Context(), q, 1, 10*time.Second)
		time.Sleep(5 * time.Second) // the fake clock's
		late := waitAll(t.Context(), q, 1, 10*time.Second)
		if err := <-early; api.CodeOf(err) != api.CodeTimeout || time.Since(begin) != 10*time.Second {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
		s.release <- nil // still in time for the second
		if err := <-late; err != nil {
			t.Error(err)
		}
	})
}

func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStarter()
		q := New(Config{Start: s.start})
		out := waitAll(t.Context(), q, 2, time.Minute)
		q.Close()
		for range 2 {
			if err := <-out; api.CodeOf(err) != api.CodeUnavailable {
				t.Errorf("held while closing: %v", err)
			}
		}
		if err := q.Wait(t.Context(), ref, time.Minute); api.CodeOf(err) != api.CodeUnavailable {
			t.Errorf("after closing: %v", err)
		}
	})
}

func TestSettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStarter()
		q := New(Config{Start: s.start})
		defer q.Close()
		if err := q.Settle(t.Context()); err != nil {
			t.Errorf("settle with nobody waiting: %v", err)
		}
		out := waitAll(t.Context(), q, 2, time.Minute)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := q.Settle(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("settle with two waiting: %v", err)
		}
		settled := make(chan error, 1)
		go func() { settled <- q.Settle(t.Context()) }()
		s.release <- nil
		for range 2 {
			if err := <-out; err != nil {
				t.Error(err)
			}
		}
		if err := <-settled; err != nil {
			t.Error(err)
		}
	})
}
