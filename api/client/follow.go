package client

import (
	"context"
	"sync"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// following is one stream of events for all that wait: an apply of a thousand instances
// is ten at a time, and each that asked again after every change would be told of all the
// others' changes.
type following struct {
	mu      sync.Mutex
	waiters map[*waiter]struct{}
	stop    context.CancelFunc // of the stream; nil while there is none
}

// waiter is one Follow.
type waiter struct {
	wants  func(api.Ref) bool
	events []api.Event   // under following.mu
	gap    bool          // under following.mu: events are missing
	wake   chan struct{} // holds one
}

const (
	// lingers is how long the stream stays open for the next who waits.
	lingers = 2 * time.Second
	// recheckEvery is how often what is waited for is read anyhow, should a stream hang.
	recheckEvery = 10 * time.Second
)

// Follow calls look, which reads how things are, and then see for every event of an
// instance that is wanted, until one of them says that it is done or fails. Where events
// were missed it looks again.
func (c *Client) Follow(ctx context.Context, wants func(api.Ref) bool, look func(context.Context) (bool, error), see func(api.Event) (bool, error)) error {
	w := &waiter{wants: wants, wake: make(chan struct{}, 1)}
	c.join(w) //nolint:contextcheck // the stream outlives whoever was first to wait
	defer c.leave(w)
	ticker := time.NewTicker(recheckEvery)
	defer ticker.Stop()
	for {
		if done, err := look(ctx); done || err != nil {
			return err
		}
		for again := false; !again; {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-ticker.C:
				again = true
				continue
			case <-w.wake:
			}
			var events []api.Event
			events, again = c.following.take(w)
			for _, e := range events {
				if done, err := see(e); done || err != nil {
					return err
				}
			}
		}
	}
}

func (f *following) take(w *waiter) (events []api.Event, gap bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	events, gap = w.events, w.gap
	w.events, w.gap = nil, false
	return events, gap
}

func (c *Client) join(w *waiter) {
	f := &c.following
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.waiters == nil {
		f.waiters = map[*waiter]struct{}{}
	}
	f.waiters[w] = struct{}{}
	if f.stop == nil {
		ctx, stop := context.WithCancel(context.Background())
		f.stop = stop
		go c.stream(ctx, c.Index())
	}
}

func (c *Client) leave(w *waiter) {
	f := &c.following
	f.mu.Lock()
	delete(f.waiters, w)
	last := len(f.waiters) == 0
	f.mu.Unlock()
	if last {
		time.AfterFunc(lingers, func() { f.end(false) })
	}
}

// end stops the stream, unless somebody waits for what it brings.
func (f *following) end(anyhow bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stop != nil && (anyhow || len(f.waiters) == 0) {
		f.stop()
		f.stop = nil
	}
}

// stream hands events out until it is stopped, or until there is no stream to be had:
// then those who wait read by themselves, and the next who comes tries again.
func (c *Client) stream(ctx context.Context, after uint64) {
	f := &c.following
	for e, err := range c.Events(ctx, after) {
		f.mu.Lock()
		if err != nil {
			if ctx.Err() == nil {
				f.stop()
				f.stop = nil
			}
			f.mu.Unlock()
			return
		}
		f.hand(e)
		f.mu.Unlock()
	}
}

func (f *following) hand(e api.Event) {
	var ref api.Ref
	switch e.Type {
	case api.EventInstanceUpdated, api.EventInstanceDeleted:
		var err error
		if ref, err = api.ParseRef(e.Key); err != nil {
			return
		}
	case api.EventResync:
	default:
		return
	}
	for w := range f.waiters {
		switch {
		case e.Type == api.EventResync:
			w.gap = true
		case w.wants(ref):
			w.events = append(w.events, e)
		default:
			continue
		}
		select {
		case w.wake <- struct{}{}:
		default:
		}
	}
}
