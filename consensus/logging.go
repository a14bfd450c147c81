package consensus

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

// routine is what Raft warns of although it is how it works: a follower is asked where
// it stands by being offered what it can't take yet.
var routine = map[string]bool{
	"failed to get previous log":                 true,
	"appendEntries rejected, sending older logs": true,
	"failed to decode incoming command":          true,
}

// raftLogger hands Raft's log lines to log.
func raftLogger(log *slog.Logger) hclog.Logger {
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: "raft", Level: hclog.Debug, Output: io.Discard})
	l.RegisterSink(&slogSink{log: log, said: make(map[string]*saying)})
	return l
}

// quietFor is for how long Raft does not repeat itself: about a peer that can't be
// reached it has something to say several times a second.
const quietFor = 30 * time.Second

type slogSink struct {
	log *slog.Logger

	mu   sync.Mutex
	said map[string]*saying // by message; Raft has a few dozen
}

type saying struct {
	at    time.Time
	again int // times since
}

// repeats reports whether a message was said just now, and if not, how often it was left
// out since.
func (s *slogSink) repeats(msg string) (again int, repeated bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	last := s.said[msg]
	if last != nil && now.Sub(last.at) < quietFor {
		last.again++
		return 0, true
	}
	if last != nil {
		again = last.again
	}
	s.said[msg] = &saying{at: now}
	return again, false
}

// Accept implements hclog.SinkAdapter. What Raft calls information is for those who
// debug it: its elections and snapshots are everyday life. What it calls an error is a
// peer's, not this node's: what ends this node is said by the latch.
func (s *slogSink) Accept(name string, level hclog.Level, msg string, args ...any) {
	l := slog.LevelDebug
	switch level {
	case hclog.Warn, hclog.Error:
		l = slog.LevelWarn
	}
	if routine[msg] {
		l = slog.LevelDebug
	}
	ctx := context.Background()
	if !s.log.Enabled(ctx, l) {
		return
	}
	again, repeated := s.repeats(msg)
	if repeated && l > slog.LevelDebug {
		return
	}
	attrs := make([]any, 0, len(args)+4)
	attrs = append(attrs, "component", name)
	if again > 0 {
		attrs = append(attrs, "left_out", again)
	}
	for _, a := range args {
		switch a := a.(type) {
		case hclog.Format:
			attrs = append(attrs, fmt.Sprintf(a[0].(string), a[1:]...))
		case slog.Level, string, int, uint64, error, bool:
			attrs = append(attrs, a)
		default:
			attrs = append(attrs, fmt.Sprint(a))
		}
	}
	s.log.Log(ctx, l, msg, attrs...)
}
