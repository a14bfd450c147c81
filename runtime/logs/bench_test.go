package logs

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"golang.org/x/sys/unix"
)

// linesEnv is the number of lines that BenchmarkSearch searches; dirEnv a directory to
// keep them in between two runs.
const linesEnv, dirEnv = "TENEMENT_LOGS_BENCH_LINES", "TENEMENT_LOGS_BENCH_DIR"

var (
	benchLevels  = []string{"INFO", "INFO", "INFO", "INFO", "DEBUG", "DEBUG", "WARN", "ERROR"}
	benchModules = []string{"http", "db", "cache", "auth", "queue", "mailer"}
	benchTexts   = []string{
		"request handled", "query finished", "cache miss for key", "token refreshed", "job enqueued",
		"connection reset by peer", "retrying after timeout", "user logged in", "rendered template", "slow query detected",
	}
)

// appendLine writes a line as a web program's log has it, about 90 bytes: every one with
// a request id of its own, one in a hundred thousand with a panic.
func appendLine(b []byte, i int, r *rand.Rand) []byte {
	text := benchTexts[r.IntN(len(benchTexts))]
	if i%100_000 == 77 {
		text = "panic recovered"
	}
	return fmt.Appendf(b, "2026-05-04T12:%02d:%02d.%03dZ %s %s: %s user=%d dur=%d.%dms req=%08x\n",
		i/60000%60, i/1000%60, i%1000, benchLevels[r.IntN(8)], benchModules[r.IntN(6)], text,
		r.IntN(100_000), r.IntN(500), r.IntN(10), i*2654435761&0xffffffff)
}

// blocks yields n lines, some hundreds at a time.
func blocks(n int) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		r := rand.New(rand.NewPCG(1, 2))
		for i := 0; i < n; {
			var block []byte
			for ; i < n && len(block) < 60<<10; i++ {
				block = appendLine(block, i, r)
			}
			if !yield(block) {
				return
			}
		}
	}
}

// ingest prints n lines through the pipes of a few instances and waits until all are stored.
func ingest(b testing.TB, s *Store, n int, blocks iter.Seq[[]byte]) {
	var outputs []*os.File
	for i := range 10 {
		stdout, _ := open(b, s, api.Ref{Service: "web", ID: strconv.Itoa(i)})
		outputs = append(outputs, stdout)
	}
	goal := s.feed.last() + uint64(n)
	written := 0
	for block := range blocks {
		if _, err := outputs[written/3%len(outputs)].Write(block); err != nil {
			b.Fatal(err)
		}
		written++
	}
	for {
		_, last, changed, _ := s.feed.since(goal)
		if last >= goal {
			return
		}
		<-changed
	}
}

// BenchmarkIngest measures lines from the pipe to the searchable store on one core, the
// program's writes to the pipe included, but not its making of the lines.
func BenchmarkIngest(b *testing.B) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	s := openStore(b, fast(Config{}))
	lines := slices.Collect(blocks(b.N))
	b.ResetTimer()
	cpu := cpuTime(b)
	ingest(b, s, b.N, slices.Values(lines))
	cpu = cpuTime(b) - cpu
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lines/s")
	b.ReportMetric(float64(b.N)/cpu.Seconds(), "lines/cpu-s") // the same on an idle machine
	b.ReportMetric(float64(s.parts.size())/float64(b.N), "disk-B/line")
}

// BenchmarkRun measures what capturing adds to a wake and to going to sleep: Open, a
// line, Close.
func BenchmarkRun(b *testing.B) {
	s := openStore(b, Config{})
	var opened, closed time.Duration
	for b.Loop() {
		begun := time.Now()
		stdout, stderr, err := s.Open(alice)
		if err != nil {
			b.Fatal(err)
		}
		opened += time.Since(begun)
		write(b, stdout, "listening\n")
		_ = stdout.Close()
		_ = stderr.Close()
		begun = time.Now()
		if err := s.Close(alice); err != nil {
			b.Fatal(err)
		}
		closed += time.Since(begun)
	}
	b.ReportMetric(float64(opened.Microseconds())/float64(b.N), "µs/open")
	b.ReportMetric(float64(closed.Microseconds())/float64(b.N), "µs/close")
}

func cpuTime(b testing.TB) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkSearch measures queries over a store of linesEnv lines (200,000 unless told).
func BenchmarkSearch(b *testing.B) {
	n := 200_000
	if text := os.Getenv(linesEnv); text != "" {
		n, _ = strconv.Atoi(text)
	}
	cfg := fast(Config{Dir: os.Getenv(dirEnv)})
	s := openStore(b, cfg)
	if have := int(s.feed.last()); have < n {
		ingest(b, s, n-have, blocks(n-have))
	}
	r := rand.New(rand.NewPCG(3, 4))
	queries := []struct {
		name string
		make func() api.LogQuery
	}{
		{"newest", func() api.LogQuery { return api.LogQuery{} }},
		{"one line", func() api.LogQuery {
			return api.LogQuery{Search: fmt.Sprintf("%08x", r.IntN(n)*2654435761&0xffffffff)}
		}},
		{"no line", func() api.LogQuery { return api.LogQuery{Search: "notthere"} }},
		{"rare word", func() api.LogQuery { return api.LogQuery{Search: "panic"} }},
		{"frequent word", func() api.LogQuery { return api.LogQuery{Search: "error"} }},
		{"rare user", func() api.LogQuery { return api.LogQuery{Search: fmt.Sprintf("user=%d", r.IntN(100_000))} }},
		{"frequent words", func() api.LogQuery { return api.LogQuery{Search: "error slow query"} }},
		{"frequent and rare", func() api.LogQuery {
			return api.LogQuery{Search: fmt.Sprintf("error user=%d", r.IntN(100_000))}
		}},
		{"instance", func() api.LogQuery {
			return api.LogQuery{Service: "web", Instance: strconv.Itoa(r.IntN(10)), Search: "timeout warn"}
		}},
		{"instance, rare", func() api.LogQuery {
			return api.LogQuery{Instance: strconv.Itoa(r.IntN(10)), Search: fmt.Sprintf("user=%d", r.IntN(100_000))}
		}},
		{"1000 lines", func() api.LogQuery { return api.LogQuery{Search: "warn", Limit: 1000} }},
		{"absent level", func() api.LogQuery { return api.LogQuery{Level: api.Stderr} }},
	}
	measure := func(b *testing.B, queries ...func() api.LogQuery) {
		var took []time.Duration
		for b.Loop() {
			for _, q := range queries {
				begun := time.Now()
				query(b, s, q())
				took = append(took, time.Since(begun))
			}
		}
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
		b.ReportMetric(float64(took[len(took)*95/100].Microseconds())/1000, "p95-ms")
		b.ReportMetric(float64(s.feed.last()), "lines")
	}
	var all []func() api.LogQuery
	for _, q := range queries {
		all = append(all, q.make)
		b.Run(q.name, func(b *testing.B) { measure(b, q.make) })
	}
	b.Run("all", func(b *testing.B) { measure(b, all...) })
	// The worst case: words of which every chunk has each, and no line both.
	b.Run("never together", func(b *testing.B) {
		measure(b, func() api.LogQuery { return api.LogQuery{Search: "mailer cache refreshed"} })
	})
}
