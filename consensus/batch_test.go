package consensus

import (
	"bytes"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
	"github.com/tenement-fleet/tenement/api"
)

// fakeRaft notes the entries that it is given, as "a+b c": two entries, of two commands
// and of one.
type fakeRaft struct{ entries []string }

func (f *fakeRaft) apply(entry []byte) raft.ApplyFuture {
	f.entries = append(f.entries, strings.Join(strings.Fields(string(entry[1:])), "+"))
	return nil
}

func (f *fakeRaft) take() string {
	defer func() { f.entries = nil }()
	return strings.Join(f.entries, " ")
}

func TestBatch(t *testing.T) {
	var r fakeRaft
	b := newBatch(r.apply)
	add := func(commands ...string) {
		for _, c := range commands {
			b.add(proposal{command: []byte(c), done: make(chan answer, 1)})
		}
	}
	check := func(step, want string) {
		t.Helper()
		if got := r.take(); got != want {
			t.Errorf("%s: Raft was given %q, want %q", step, got, want)
		}
	}
	big := strings.Repeat("x", maxEntryBytes-1)
	add("a")
	check("the first goes at once", "a")
	add("b", "c")
	check("while it is written others wait", "")
	b.written()
	check("then they go together", "b+c")
	b.answered()
	add("d")
	check("an answer to an earlier entry is no write", "")
	b.written()
	check("the next write ends", "d")
	b.written()
	check("nothing waits", "")
	add(big, "e", "f", "g")
	check("an entry has a size", big)
	b.written()
	check("the rest", "e+f+g")
	add("h")
	b.answered() // b+c
	b.answered() // d
	b.answered() // big
	check("one is still in hand", "")
	b.answered() // e+f+g, that failed and was never written
	check("a failure frees the way", "h")
}

func TestBatchIsBounded(t *testing.T) {
	var r fakeRaft
	b := newBatch(r.apply)
	var all []proposal
	for i := range 3 * maxFlights {
		p := proposal{command: bytes.Repeat([]byte{'a' + byte(i%26)}, maxEntryBytes), done: make(chan answer, 1)}
		all = append(all, p)
		b.add(p)
	}
	b.written()
	if len(r.entries) != maxFlights || len(b.flights) != maxFlights {
		t.Fatalf("Raft was given %d entries, want %d", len(r.entries), maxFlights)
	}
	<-b.flights
	b.answered()
	if len(r.entries) != maxFlights {
		t.Fatal("an entry was given to Raft while it writes")
	}
	b.written()
	if len(r.entries) != maxFlights+1 {
		t.Fatalf("Raft was given %d entries, want one more", len(r.entries))
	}
	empty := b.close()
	late := proposal{done: make(chan answer, 1)}
	b.add(late)
	for i, p := range append(all[maxFlights+1:], late) {
		select {
		case a := <-p.done:
			if api.CodeOf(a.err) != api.CodeUnavailable {
				t.Errorf("proposal %d: got %v", i, a.err)
			}
		default:
			t.Errorf("proposal %d was not refused", i)
		}
	}
	for range maxFlights {
		select {
		case <-empty:
			t.Fatal("empty with answers outstanding")
		default:
		}
		b.answered()
	}
	<-empty
	if len(r.entries) != maxFlights+1 {
		t.Error("an entry was given to Raft after close")
	}
	<-b.close()
}
