package consensus

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
)

func TestRaftLogs(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	l := raftLogger(log)
	l.Info("entering leader state", "leader", "x")
	l.With("peer", "b").Warn("slow", "took", hclog.Fmt("%d ms", 7), "list", []int{1})
	l.Error("failed", "error", "why")
	l.Error("failed", "error", "why still")
	l.Warn("failed to get previous log")
	want := strings.Join([]string{
		`level=WARN msg=slow component=raft peer=b took="7 ms" list=[1]`,
		`level=WARN msg=failed component=raft error=why`,
	}, "\n") + "\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}

func TestRaftDoesNotRepeatItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := raftLogger(slog.New(slog.NewTextHandler(&out, nil)))
		for range 100 {
			l.Error("failed to heartbeat to", "peer", "x")
			time.Sleep(quietFor / 50)
		}
		if n := strings.Count(out.String(), "heartbeat"); n != 2 || !strings.Contains(out.String(), "left_out=49") {
			t.Errorf("%d lines:\n%s", n, out.String())
		}
	})
}
