package consensus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tenement-fleet/tenement/api"
)

// leaderStub is a leader that answers when it is told to.
type leaderStub struct {
	requests chan []Forwarded
	answers  chan error
}

func newLeaderStub() *leaderStub {
	return &leaderStub{make(chan []Forwarded, 64), make(chan error, 64)}
}

func (l *leaderStub) send(ctx context.Context, _ string, batch []Forwarded) ([]ForwardResult, error) {
	l.requests <- batch
	select {
	case err := <-l.answers:
		if err != nil {
			return nil, err
		}
		return make([]ForwardResult, len(batch)), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func newCall(size int) *forwardCall {
	return &forwardCall{Forwarded{Command: json.RawMessage(strings.Repeat(" ", size))}, make(chan forwardAnswer, 1)}
}

// While as many requests as may be are under way, what comes shares the next.
func TestForwardedCommandsShareRequests(t *testing.T) {
	l := newLeaderStub()
	f := newForwarder(l.send)
	calls := make([]*forwardCall, 0, maxForwards+MaxForwarded+2)
	add := func(size int) {
		c := newCall(size)
		if err := f.add("leader", c); err != nil {
			t.Fatal(err)
		}
		calls = append(calls, c)
	}
	for range maxForwards {
		add(1)
		if batch := <-l.requests; len(batch) != 1 {
			t.Errorf("a request of %d", len(batch))
		}
	}
	for range MaxForwarded + 1 {
		add(1)
	}
	add(MaxForwardedBytes)
	l.answers <- nil
	if batch := <-l.requests; len(batch) != MaxForwarded {
		t.Errorf("a request of %d commands", len(batch))
	}
	for range maxForwards + 2 {
		l.answers <- nil
	}
	for _, c := range calls {
		if a := <-c.done; a.err != nil {
			t.Error(a.err)
		}
	}
	f.close()
	if err := f.add("leader", newCall(1)); !errors.Is(err, errClosing) {
		t.Errorf("after close: got %v", err)
	}
}

func TestForwardingFails(t *testing.T) {
	l := newLeaderStub()
	f := newForwarder(l.send)
	fails := func(with error) error {
		t.Helper()
		c := newCall(1)
		if err := f.add("leader", c); err != nil {
			t.Fatal(err)
		}
		<-l.requests
		l.answers <- with
		return (<-c.done).err
	}
	if err := fails(fmt.Errorf("dial: %w", ErrNotSent)); !neverHappened(err) {
		t.Errorf("what was never sent: got %v", err)
	}
	if err := fails(errors.New("reset")); neverHappened(err) || api.CodeOf(err) != api.CodeTimeout || !strings.Contains(err.Error(), "may have happened") {
		t.Errorf("a lost connection: got %v", err)
	}
	// What waits for a leader is refused when there is another.
	var held []*forwardCall
	for range maxForwards {
		c := newCall(1)
		if err := f.add("leader", c); err != nil {
			t.Fatal(err)
		}
		<-l.requests
		held = append(held, c)
	}
	waits, next := newCall(1), newCall(1)
	if err := errors.Join(f.add("leader", waits), f.add("next", next)); err != nil {
		t.Fatal(err)
	}
	if a := <-waits.done; !neverHappened(a.err) {
		t.Errorf("what waited for the last leader: got %v", a.err)
	}
	if f.drop("leader", waits) || !f.drop("next", next) || f.drop("next", next) {
		t.Error("what waits can be taken back once, nothing else can")
	}
	for range maxForwards {
		l.answers <- nil
	}
	for _, c := range held {
		if a := <-c.done; a.err != nil {
			t.Error(a.err)
		}
	}
	f.close()
}

func TestForwardingIsBounded(t *testing.T) {
	l := newLeaderStub()
	f := newForwarder(l.send)
	var err error
	added := 0
	for ; err == nil && added < 2*maxForwardWaiting; added++ {
		err = f.add("leader", newCall(1))
	}
	if api.CodeOf(err) != api.CodeUnavailable || added < maxForwardWaiting {
		t.Errorf("got %v after %d", err, added)
	}
	f.cancel() // the leader never answers
	f.close()
}

// What an older leader could not read is not sent to it, and the error says which node is
// in the way.
func TestOlderLeader(t *testing.T) {
	c := newTestCluster(t, 3)
	lead := c.leader()
	old := lead.self()
	old.StateVersion = 2
	if _, err := lead.DescribeNode(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	c.awaitEqual()
	s := &api.Service{Name: "web", Command: "app", Env: map[string]string{"KEY": "sesame"}, SecretEnv: []string{"KEY"}}
	want := fmt.Sprintf("it needs version 3 of the state, node %s (%s) understands version 2: run a newer ten there", old.Name, old.ID)
	if _, err := c.followers()[0].PutService(t.Context(), s, nil); api.CodeOf(err) != api.CodeConflict || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
	if _, err := lead.DescribeNode(t.Context(), lead.self()); err != nil {
		t.Fatal(err)
	}
	c.awaitEqual()
	if _, err := c.followers()[0].PutService(t.Context(), s, nil); err != nil {
		t.Error(err)
	}
}
