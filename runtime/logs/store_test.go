package logs

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

var alice = api.Ref{Service: "notes", ID: "alice"}

func TestCapture(t *testing.T) {
	at := time.Date(2026, 5, 4, 12, 0, 0, 7, time.UTC)
	s := openStore(t, Config{Now: func() time.Time { return at }})
	stdout, stderr := open(t, s, alice)
	write(t, stdout, "hello\nwor")
	first := await(t, s, api.LogQuery{}, 1)
	write(t, stderr, "oops \xff\x00\x1b[31m\n")
	await(t, s, api.LogQuery{Level: api.Stderr}, 1)
	write(t, stdout, "ld\n")
	got := await(t, s, api.LogQuery{}, 3)
	want := []api.LogEntry{
		{Seq: 1, Time: at, Service: "notes", Instance: "alice", Level: api.Stdout, Message: "hello"},
		{Seq: 2, Time: at, Service: "notes", Instance: "alice", Level: api.Stderr, Message: "oops \uFFFD\x00\x1b[31m"},
		{Seq: 3, Time: at, Service: "notes", Instance: "alice", Level: api.Stdout, Message: "world"},
	}
	if !slices.Equal(got, want) || first[0] != want[0] {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestLongLines(t *testing.T) {
	s := openStore(t, Config{})
	stdout, _ := open(t, s, alice)
	const max = 64 << 10
	line := func(n int) string { return strings.Repeat("é", n/2) }
	write(t, stdout, line(max)+"\n")
	write(t, stdout, line(max+2)+"\n")
	write(t, stdout, "x"+line(2*max)+"\n")
	type piece struct {
		n       int
		partial bool
	}
	want := []piece{{max, false}, {max, true}, {2, false}, {max - 1, true}, {max, true}, {2, false}}
	var got []piece
	for _, e := range await(t, s, api.LogQuery{}, len(want)) {
		got = append(got, piece{len(e.Message), e.Partial})
		if strings.Contains(e.Message, "\uFFFD") {
			t.Error("a rune was cut in two")
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// The end of a run ends its last line, and leaves nothing behind but the entries.
func TestCloseEndsRun(t *testing.T) {
	s := openStore(t, Config{})
	for _, text := range []string{"one\nhalf", "two\n", "", "three"} {
		stdout, stderr, err := s.Open(alice)
		if err != nil {
			t.Fatal(err)
		}
		write(t, stdout, text)
		for _, f := range []interface{ Close() error }{stdout, stderr} {
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if err := s.Close(alice); err != nil {
				t.Fatal(err)
			}
		}
		if left := files(t, s.cfg.IODir); len(left) > 0 {
			t.Fatalf("Close left %v", left)
		}
	}
	got := messages(await(t, s, api.LogQuery{}, 4))
	if want := []string{"one", "half", "two", "three"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	stop(t, s)
	if left, err := s.spool.List(); len(left) > 0 || err != nil {
		t.Errorf("spool holds %v, %v", left, err)
	}
}

// A new run without Close of the earlier one takes what is left in the old pipes.
func TestOpenWithoutClose(t *testing.T) {
	s := openStore(t, fast(Config{}))
	for i := range 3 {
		stdout, _ := open(t, s, alice)
		write(t, stdout, strings.Repeat("a", i+1))
	}
	open(t, s, alice)
	got := messages(await(t, s, api.LogQuery{}, 3))
	if want := []string{"a", "aa", "aaa"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestQuery(t *testing.T) {
	s := openStore(t, Config{})
	for _, ref := range []api.Ref{alice, {Service: "notes", ID: "bob"}, {Service: "web", ID: "alice"}} {
		stdout, stderr := open(t, s, ref)
		for i := range 3 {
			write(t, stdout, ref.String()+" Request Number "+string(rune('0'+i))+"\n")
		}
		write(t, stderr, ref.String()+" request failed: \"quoted\" OR NOT (x*)\n")
		await(t, s, api.LogQuery{Service: ref.Service, Instance: ref.ID}, 4)
	}
	tests := []struct {
		name string
		q    api.LogQuery
		want int
	}{
		{"all", api.LogQuery{}, 12},
		{"limit", api.LogQuery{Limit: 5}, 5},
		{"service", api.LogQuery{Service: "notes"}, 8},
		{"id", api.LogQuery{Instance: "alice"}, 8},
		{"instance", api.LogQuery{Service: "notes", Instance: "alice"}, 4},
		{"no such service", api.LogQuery{Service: "note"}, 0},
		{"level", api.LogQuery{Level: api.Stderr}, 3},
		{"word", api.LogQuery{Search: "REQUEST"}, 12},
		{"words", api.LogQuery{Search: "number request"}, 9},
		{"part of a word", api.LogQuery{Search: "reques"}, 0},
		{"word and level", api.LogQuery{Search: "request", Level: api.Stderr, Service: "web"}, 1},
		{"syntax is data", api.LogQuery{Search: `"quoted" OR NOT (x*)`}, 3},
		{"syntax is data, no match", api.LogQuery{Search: `number OR failed`}, 0},
		{"the index's own terms are not words", api.LogQuery{Search: "::stderr"}, 0},
		{"punctuation only", api.LogQuery{Search: `(`}, 3},
		{"punctuation in a word", api.LogQuery{Search: `(x*)`}, 3},
		{"after", api.LogQuery{After: 10}, 2},
		{"after all", api.LogQuery{After: 1 << 60}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := query(t, s, tt.q)
			if len(got) != tt.want {
				t.Errorf("got %d entries, want %d: %q", len(got), tt.want, messages(got))
			}
			if !slices.IsSortedFunc(got, func(a, b api.LogEntry) int { return int(a.Seq) - int(b.Seq) }) {
				t.Error("not oldest first")
			}
		})
	}
	if got := query(t, s, api.LogQuery{Limit: 2}); got[1].Seq != 12 {
		t.Errorf("limit kept %+v, not the newest", got)
	}
}

func TestBadInput(t *testing.T) {
	s := openStore(t, Config{})
	for _, tt := range []struct {
		q    api.LogQuery
		want string
	}{
		{api.LogQuery{Service: "A b"}, `query logs: service: got "A b", want 1 to 63 of a-z 0-9 _ -, the first a letter or digit`},
		{api.LogQuery{Instance: `"`}, `query logs: id: got "\"", want 1 to 63 of a-z 0-9 _ -, the first a letter or digit`},
		{api.LogQuery{Level: "debug"}, `query logs: level: got "debug", want "stdout" or "stderr"`},
		{api.LogQuery{Limit: -1}, `query logs: limit: got "-1", want 0 (meaning 100) to 10000`},
		{api.LogQuery{Search: strings.Repeat("a", 2000)}, `query logs: search: got "` + strings.Repeat("a", 64) + `…", want at most 1024 bytes`},
	} {
		_, err := s.Query(ctx(t), tt.q)
		if api.CodeOf(err) != api.CodeInvalid || err.Error() != tt.want {
			t.Errorf("Query(%+v) = %v", tt.q, err)
		}
		for _, err := range s.Follow(ctx(t), tt.q) {
			if api.CodeOf(err) != api.CodeInvalid {
				t.Errorf("Follow(%+v) = %v", tt.q, err)
			}
		}
	}
	if _, _, err := s.Open(api.Ref{Service: "..", ID: "x"}); api.CodeOf(err) != api.CodeInvalid {
		t.Errorf("Open = %v", err)
	}
	if err := s.Attach(api.Ref{Service: "..", ID: "x"}); api.CodeOf(err) != api.CodeInvalid {
		t.Errorf("Attach = %v", err)
	}
	if _, err := Open(Config{}); err == nil || err.Error() != `open log store: Dir: got "", want a directory` {
		t.Errorf("Open = %v", err)
	}
	if _, err := Open(Config{Dir: t.TempDir(), MaxSize: 1}); err == nil || err.Error() != `open log store: MaxSize: got "1B", want at least 1MiB` {
		t.Errorf("Open = %v", err)
	}
	stop(t, s)
	if _, _, err := s.Open(alice); api.CodeOf(err) != api.CodeUnavailable {
		t.Errorf("Open after Stop = %v", err)
	}
	if _, err := s.Query(ctx(t), api.LogQuery{}); api.CodeOf(err) != api.CodeUnavailable {
		t.Errorf("Query after Stop = %v", err)
	}
}
