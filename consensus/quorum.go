package consensus

import (
	"context"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"github.com/tenement-fleet/tenement/api"
)

const (
	// askWait bounds the wait for a majority's answers.
	askWait = time.Second
	// maxAsks is how many questions to one node may be unanswered.
	maxAsks = 4
)

// quorum asks the other nodes whether they still follow this leader, with heartbeats of
// its own. Raft's VerifyLeader does not do: it counts non-voters, and answers to
// heartbeats that were sent before it was called, so that a leader that was stopped for
// a minute could find itself confirmed by an answer from before. Here a round begins
// after it was asked for, only voters count, and many who ask share one round.
type quorum struct {
	raft      *raft.Raft
	transport Transport
	id        raft.ServerID
	now       func() time.Time
	asking    sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	running  bool
	next     *round
	contacts map[raft.ServerID]contact
}

// contact is what a node last answered.
type contact struct {
	at      time.Time // when it was asked
	lastLog uint64    // the last entry in its log
	pending int       // questions that it has not answered yet
}

type round struct {
	done chan struct{}
	err  error // written before done is closed
}

// verify returns nil if this node was the leader at some time after it was called.
func (q *quorum) verify(ctx context.Context) error {
	r, err := q.join()
	if err != nil {
		return err
	}
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return waited(ctx, "ask the other servers who leads")
	}
}

// join returns the round that begins next.
func (q *quorum) join() (*round, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return nil, errClosing
	}
	if q.next == nil {
		q.next = &round{done: make(chan struct{})}
	}
	if !q.running {
		q.running = true
		q.asking.Go(q.run)
	}
	return q.next, nil
}

func (q *quorum) run() {
	for {
		q.mu.Lock()
		r := q.next
		q.next = nil
		q.running = r != nil
		q.mu.Unlock()
		if r == nil {
			return
		}
		r.err = q.hold()
		close(r.done)
	}
}

// close refuses further rounds and waits for what is under way, which ends at the latest
// when the transport gives up.
func (q *quorum) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.asking.Wait()
}

// hold is one round.
func (q *quorum) hold() error {
	term, ok := leadingTerm(q.raft)
	if !ok {
		return errNotLeader()
	}
	voters, others := 0, []raft.Server(nil)
	for _, s := range q.raft.GetConfiguration().Configuration().Servers {
		if s.Suffrage == raft.Voter {
			voters++
			if s.ID != q.id {
				others = append(others, s)
			}
		}
	}
	needed := voters / 2
	if needed == 0 {
		return nil
	}
	answers := make(chan bool, len(others))
	asked := 0
	for _, s := range others {
		if q.ask(s, term, 0, func(follows bool) { answers <- follows }) {
			asked++
		}
	}
	timeout := time.NewTimer(askWait)
	defer timeout.Stop()
	for ; asked >= needed; asked-- {
		select {
		case follows := <-answers:
			if !follows {
				continue
			}
			if needed--; needed == 0 {
				return nil
			}
		case <-timeout.C:
			return errNoQuorum()
		}
	}
	return errNoQuorum()
}

// leadingTerm returns the term in which this node leads.
func leadingTerm(r *raft.Raft) (uint64, bool) {
	// A leader's term does not change while it leads: if it is the same before and after,
	// it is the term in which the state in between was seen.
	term := r.CurrentTerm()
	return term, r.State() == raft.Leader && r.CurrentTerm() == term
}

// ask sends s a heartbeat of the leader of the given term, and tells answered in a
// goroutine of its own whether s follows it. A commit other than 0 tells s, by the way,
// that the log is committed up to there; the entry there must be of that term. It reports
// false, and sends nothing, when s has too many questions to answer already.
func (q *quorum) ask(s raft.Server, term, commit uint64, answered func(follows bool)) bool {
	sent := q.now()
	q.mu.Lock()
	defer q.mu.Unlock()
	c := q.contacts[s.ID]
	if c.pending >= maxAsks || q.closed {
		return false
	}
	c.pending++
	q.contacts[s.ID] = c
	q.asking.Go(func() {
		req := &raft.AppendEntriesRequest{
			RPCHeader:         q.header(),
			Term:              term,
			PrevLogEntry:      commit,
			LeaderCommitIndex: commit,
		}
		if commit > 0 {
			req.PrevLogTerm = term
		}
		var resp raft.AppendEntriesResponse
		err := q.transport.AppendEntries(s.ID, s.Address, req, &resp)
		// Whether it has the entry does not matter, nor whether it is busy with a snapshot:
		// it is in our term, so nobody was elected in a later one when it answered.
		follows := err == nil && resp.Term == term
		q.answered(s.ID, sent, resp.LastLog, follows)
		answered(follows)
	})
	return true
}

func (q *quorum) header() raft.RPCHeader {
	return raft.RPCHeader{
		ProtocolVersion: raft.ProtocolVersionMax,
		ID:              []byte(q.id),
		Addr:            q.transport.EncodePeer(q.id, q.transport.LocalAddr()),
	}
}

func (q *quorum) answered(id raft.ServerID, sent time.Time, lastLog uint64, follows bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := q.contacts[id]
	c.pending--
	if follows && sent.After(c.at) {
		c.at, c.lastLog = sent, lastLog
	}
	q.contacts[id] = c
}

// contact returns what a node last answered.
func (q *quorum) contact(id raft.ServerID) contact {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.contacts[id]
}

// forget drops what was known of all nodes: it is from another term.
func (q *quorum) forget() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for id, c := range q.contacts {
		q.contacts[id] = contact{pending: c.pending}
	}
}

func errNotLeader() error {
	err := api.Errorf(api.CodeUnavailable, "ask the leader: %w", ErrNotLeader)
	err.RetryAfter = api.Seconds(1)
	return err
}

func errNoQuorum() error {
	return &api.Error{
		Code: api.CodeUnavailable, RetryAfter: api.Seconds(1),
		Message: "ask the other servers who leads: most of the voting servers did not answer: there is no quorum",
	}
}
