//go:build !linux

package health

import (
	"log/slog"
	"time"
)

// prober finds out who listens by connecting, the only way that works everywhere.
type prober struct{ woken chan struct{} }

// sockWatch is what a prober remembers of a waiter's socket: here nothing.
type sockWatch struct{}

func openProber(method, *slog.Logger) (*prober, error) {
	return &prober{woken: make(chan struct{}, 1)}, nil
}

func (p *prober) close() error  { return nil }
func (p *prober) enter(*waiter) {}
func (p *prober) leave(*waiter) {}

func (p *prober) wake() {
	select {
	case p.woken <- struct{}{}:
	default:
	}
}

func (p *prober) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-p.woken:
	}
}

func (p *prober) probe(waiters []*waiter) {
	for _, w := range waiters {
		if w.port != 0 {
			if addr, ok := connectTCP(w.port); ok {
				w.ready <- tcpEndpoint(addr, w.port)
				continue
			}
		}
		if w.socket != "" && accepts("unix", w.socket) {
			w.ready <- unixEndpoint(w.socket)
		}
	}
}
