package consensus

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// raftLogger hands Raft's log lines to log.
func raftLogger(log *slog.Logger) hclog.Logger {
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: "raft", Level: hclog.Debug, Output: io.Discard})
	l.RegisterSink(slogSink{log})
	return l
}

type slogSink struct{ log *slog.Logger }

// Accept implements hclog.SinkAdapter. What Raft calls information is for those who
// debug it: its elections and snapshots are everyday life.
func (s slogSink) Accept(name string, level hclog.Level, msg string, args ...any) {
	l := slog.LevelDebug
	switch level {
	case hclog.Warn:
		l = slog.LevelWarn
	case hclog.Error:
		l = slog.LevelError
	}
	ctx := context.Background()
	if !s.log.Enabled(ctx, l) {
		return
	}
	attrs := make([]any, 0, len(args)+2)
	attrs = append(attrs, "component", name)
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
