package capture

import "time"

// bucket is a token bucket, in bytes. It may be overdrawn by up to its size: then it
// takes longer to refill. For one goroutine.
type bucket struct {
	rate, burst float64
	tokens      float64
	last        time.Time
}

func newBucket(rate, burst int64) bucket {
	return bucket{rate: float64(rate), burst: float64(burst), tokens: float64(burst)}
}

// refill adds what has come in until now. A clock that went back adds nothing.
func (b *bucket) refill(now time.Time) {
	if d := now.Sub(b.last); !b.last.IsZero() && d > 0 {
		b.tokens = min(b.burst, b.tokens+b.rate*d.Seconds())
	}
	b.last = now
}

// wait returns how long until n tokens are there, or as many as fit.
func (b *bucket) wait(n float64) time.Duration {
	missing := min(n, b.burst) - b.tokens
	if missing <= 0 {
		return 0
	}
	return time.Duration(missing / b.rate * float64(time.Second))
}

func (b *bucket) take(n int) { b.tokens = max(b.tokens-float64(n), -b.burst) }
