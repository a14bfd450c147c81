package auth

import (
	"net/netip"
	"sync"
	"time"
)

const (
	maxFailures   = 10
	failureWindow = time.Minute
	maxAddresses  = 8192 // about 1 MB
)

// limiter counts failed attempts by remote address. Its memory is bounded: every window
// is equally long, so the order of arrival is the order of expiry, and where there are
// more addresses than maxAddresses the oldest window goes first.
type limiter struct {
	mu      sync.Mutex
	windows map[string]*window
	order   []*window // oldest first
}

type window struct {
	key      string
	start    time.Time
	failures int
}

func newLimiter() *limiter { return &limiter{windows: map[string]*window{}} }

// locked returns how long the address stays locked out; 0 when it is not.
func (l *limiter) locked(address string, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expire(now)
	w := l.windows[limiterKey(address)]
	if w == nil || w.failures < maxFailures {
		return 0
	}
	return w.start.Add(failureWindow).Sub(now)
}

func (l *limiter) fail(address string, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expire(now)
	key := limiterKey(address)
	w := l.windows[key]
	if w == nil {
		if len(l.order) == maxAddresses {
			l.dropOldest()
		}
		w = &window{key: key, start: now}
		l.windows[key] = w
		l.order = append(l.order, w)
	}
	w.failures++
}

func (l *limiter) expire(now time.Time) {
	for len(l.order) > 0 && now.Sub(l.order[0].start) >= failureWindow {
		l.dropOldest()
	}
}

func (l *limiter) dropOldest() {
	delete(l.windows, l.order[0].key)
	l.order[0] = nil
	l.order = l.order[1:]
}

// limiterKey counts an IPv6 client by its /64, the least that one client is given.
func limiterKey(address string) string {
	ip, err := netip.ParseAddr(address)
	if err != nil || ip.Unmap().Is4() {
		return address
	}
	p, err := ip.WithZone("").Prefix(64)
	if err != nil {
		return address
	}
	return p.String()
}
