package gossip

import (
	"log/slog"
	"slices"
	"testing"
	"time"
)

func TestLog(t *testing.T) {
	var out logLines
	now := time.Unix(0, 0)
	refused := map[string]int{}
	w := &logWriter{
		log: slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey || a.Key == "component" {
				return slog.Attr{}
			}
			return a
		}})),
		now:     func() time.Time { return now },
		refused: func(reason string) { refused[reason]++ },
	}
	log := w.logger()
	log.Printf("[DEBUG] memberlist: Stream connection from=10.0.0.1:1234")
	log.Printf("[INFO] memberlist: Suspect 8d3f has failed, no acks received")
	for i := range 3 {
		log.Printf("[ERR] memberlist: Push/Pull with node-%d failed: dial tcp 10.0.0.%d: timeout", i, i)
		log.Printf("[ERR] memberlist: discarding packet with unacceptable label %q: from=10.0.0.1:%d", "other", 1000+i)
	}
	log.Printf("[ERR] memberlist: discarding packet with unacceptable label %q: from=10.0.0.2:1", "other")
	log.Printf("Err: Could not set the deadline: closed")
	now = now.Add(2 * quietTime)
	log.Printf("[WARN] memberlist: Push/Pull with node-7 failed: refused")
	want := []string{
		`level=WARN msg="Push/Pull with node-0 failed: dial tcp 10.0.0.0: timeout"`,
		`level=WARN msg="refused gossip: discarding packet with unacceptable label \"other\": from=10.0.0.1:1000" reason=cluster_id from=10.0.0.1:1000`,
		`level=WARN msg="refused gossip: discarding packet with unacceptable label \"other\": from=10.0.0.2:1" reason=cluster_id from=10.0.0.2:1`,
		`level=WARN msg="Err: Could not set the deadline: closed"`,
		`level=WARN msg="Push/Pull with node-7 failed: refused"`,
	}
	for i, l := range out.lines {
		out.lines[i] = l[:len(l)-1]
	}
	want[4] += " suppressed=2"
	if !slices.Equal(out.lines, want) {
		t.Errorf("lines:\n%q\nwant:\n%q", out.lines, want)
	}
	if refused[reasonLabel] != 4 || len(refused) != 1 {
		t.Errorf("refused: %v", refused)
	}
	for i := range 10 * quietMax {
		w.once(string(rune('a'+i)), time.Hour, slog.LevelWarn, "x")
	}
	if len(w.quiet) > quietMax {
		t.Errorf("%d kinds are remembered", len(w.quiet))
	}
}
