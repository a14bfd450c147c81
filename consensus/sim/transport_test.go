package sim

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// rpcTimeout is that of the real transport.
const rpcTimeout = 5 * time.Second

// transport carries Raft's messages of one process. It does what the real one does, the
// way past the main loop for heartbeats included.
type transport struct {
	p         *process
	consumer  chan raft.RPC
	heartbeat atomic.Pointer[func(raft.RPC)]
}

func newTransport(p *process) *transport {
	return &transport{p: p, consumer: make(chan raft.RPC)}
}

func (t *transport) Consumer() <-chan raft.RPC            { return t.consumer }
func (t *transport) LocalAddr() raft.ServerAddress        { return t.p.host.addr }
func (t *transport) Close() error                         { t.p.vanish(); return nil }
func (t *transport) SetHeartbeatHandler(f func(raft.RPC)) { t.heartbeat.Store(&f) }

func (t *transport) EncodePeer(_ raft.ServerID, a raft.ServerAddress) []byte { return []byte(a) }
func (t *transport) DecodePeer(b []byte) raft.ServerAddress                  { return raft.ServerAddress(b) }

// deliver hands a message to this process and waits for its answer.
func (t *transport) deliver(command any, data io.Reader) (any, error) {
	answer := make(chan raft.RPCResponse, 1)
	rpc := raft.RPC{Command: command, Reader: data, RespChan: answer}
	if f := t.heartbeat.Load(); f != nil && isHeartbeat(command) {
		(*f)(rpc)
	} else {
		select {
		case t.consumer <- rpc:
		case <-t.p.gone:
			return nil, errLost
		}
	}
	select {
	case r := <-answer:
		return r.Response, r.Error
	case <-t.p.gone:
		return nil, errLost
	}
}

// isHeartbeat decides as raft.NetworkTransport does.
func isHeartbeat(command any) bool {
	r, ok := command.(*raft.AppendEntriesRequest)
	return ok && r.Term != 0 && r.PrevLogEntry == 0 && r.PrevLogTerm == 0 && len(r.Entries) == 0 && r.LeaderCommitIndex == 0
}

// send asks another machine's Raft.
func send[Resp any](t *transport, to raft.ServerAddress, command any, data []byte, resp *Resp) error {
	h, err := t.p.host.w.at(to)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), rpcTimeout)
	defer cancel()
	got, err := call(ctx, t.p, h, func(p *process) (*Resp, error) {
		var r io.Reader
		if data != nil {
			r = bytes.NewReader(data)
		}
		return answerOf[Resp](p.transport.deliver(command, r))
	})
	if err != nil {
		if t.p.isDead() {
			time.Sleep(time.Millisecond) // Raft tries again at once until it has ended
		}
		return err
	}
	*resp = *got
	return nil
}

func answerOf[Resp any](v any, err error) (*Resp, error) {
	if err != nil {
		// Errors cross the wire as words.
		return nil, errors.New(err.Error())
	}
	r, ok := v.(*Resp)
	if !ok {
		return nil, fmt.Errorf("got a %T", v)
	}
	copied := *r
	return &copied, nil
}

func copied(r *raft.AppendEntriesRequest) *raft.AppendEntriesRequest {
	c := *r
	c.Entries = make([]*raft.Log, len(r.Entries))
	for i, e := range r.Entries {
		l := *e
		c.Entries[i] = &l
	}
	return &c
}

func (t *transport) AppendEntries(_ raft.ServerID, to raft.ServerAddress, r *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	t.p.host.w.sawLeader(r.Term, string(r.ID))
	return send(t, to, copied(r), nil, resp)
}

func (t *transport) RequestVote(_ raft.ServerID, to raft.ServerAddress, r *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	c := *r
	return send(t, to, &c, nil, resp)
}

func (t *transport) RequestPreVote(_ raft.ServerID, to raft.ServerAddress, r *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	c := *r
	return send(t, to, &c, nil, resp)
}

func (t *transport) TimeoutNow(_ raft.ServerID, to raft.ServerAddress, r *raft.TimeoutNowRequest, resp *raft.TimeoutNowResponse) error {
	c := *r
	return send(t, to, &c, nil, resp)
}

func (t *transport) InstallSnapshot(_ raft.ServerID, to raft.ServerAddress, r *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	t.p.host.w.sawLeader(r.Term, string(r.ID))
	all, err := io.ReadAll(data)
	if err != nil {
		return err
	}
	if t.p.host.w.net.chance(0.1) {
		all = all[:len(all)/2] // the connection breaks
	}
	t.p.host.w.count("snapshots sent", 1)
	c := *r
	return send(t, to, &c, all, resp)
}

// AppendEntriesPipeline returns a connection on which everything keeps its order.
func (t *transport) AppendEntriesPipeline(_ raft.ServerID, to raft.ServerAddress) (raft.AppendPipeline, error) {
	h, err := t.p.host.w.at(to)
	if err != nil {
		return nil, err
	}
	p := &pipeline{
		t: t, to: h, done: make(chan struct{}), broken: make(chan struct{}),
		sent: make(chan *entries, 128), answered: make(chan *entries, 128), ready: make(chan raft.AppendFuture, 128),
	}
	wg := t.p.host.w.net.wg
	wg.Go(p.carry)
	wg.Go(p.bringBack)
	return p, nil
}

// pipeline is a connection for entries.
type pipeline struct {
	t        *transport
	to       *host
	close    sync.Once
	done     chan struct{}
	broken   chan struct{} // closed after the first that failed
	breaks   sync.Once
	sent     chan *entries
	answered chan *entries
	ready    chan raft.AppendFuture
	last     time.Time // when the one before arrives; belongs to AppendEntries
}

// entries is one request on its way.
type entries struct {
	began, arrives time.Time
	req            *raft.AppendEntriesRequest
	resp           *raft.AppendEntriesResponse
	got            *raft.AppendEntriesResponse
	err            error
	done           chan struct{}
}

func (e *entries) Error() error                          { <-e.done; return e.err }
func (e *entries) Start() time.Time                      { return e.began }
func (e *entries) Request() *raft.AppendEntriesRequest   { return e.req }
func (e *entries) Response() *raft.AppendEntriesResponse { return e.resp }

func (p *pipeline) AppendEntries(r *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	p.t.p.host.w.sawLeader(r.Term, string(r.ID))
	now := time.Now()
	e := &entries{began: now, arrives: now.Add(p.t.p.host.w.net.takes(p.t.p.host.index, p.to.index)), req: r, resp: resp, done: make(chan struct{})}
	if e.arrives.Before(p.last) {
		e.arrives = p.last
	}
	p.last = e.arrives
	select {
	case p.sent <- e:
		return e, nil
	case <-p.done:
		return nil, raft.ErrPipelineShutdown
	case <-p.broken:
		return nil, errLost
	case <-p.t.p.gone:
		return nil, errLost
	}
}

func (p *pipeline) Consumer() <-chan raft.AppendFuture { return p.ready }

func (p *pipeline) Close() error {
	p.close.Do(func() { close(p.done) })
	return nil
}

func (p *pipeline) over() bool {
	select {
	case <-p.done:
		return true
	case <-p.t.p.gone:
		return true
	default:
		return false
	}
}

// carry takes requests to the other side, one after the other.
func (p *pipeline) carry() {
	for {
		select {
		case e := <-p.sent:
			p.serve(e)
			select {
			case p.answered <- e:
			case <-p.done:
				return
			case <-p.t.p.gone:
				return
			}
			if e.err != nil {
				return
			}
		case <-p.done:
			return
		case <-p.t.p.gone:
			return
		}
	}
}

func (p *pipeline) serve(e *entries) {
	n := p.t.p.host.w.net
	e.err = errLost
	timeout := e.began.Add(rpcTimeout)
	if e.arrives.After(timeout) { // it comes, but nobody waits for it any more
		late := e.arrives
		n.wg.Go(func() {
			if at, _ := p.to.listener(); n.leg(p.t.p.host, p.to, late) && at != nil {
				_, _ = at.transport.deliver(copied(e.req), nil)
			}
		})
		e.arrives = timeout
		return
	}
	if !n.leg(p.t.p.host, p.to, e.arrives) {
		e.arrives = timeout
		return
	}
	at, refuses := p.to.listener()
	if at == nil {
		e.arrives = timeout
		if refuses {
			e.arrives = time.Now().Add(n.takes(p.to.index, p.t.p.host.index))
		}
		return
	}
	got, err := answerOf[raft.AppendEntriesResponse](at.transport.deliver(copied(e.req), nil))
	e.got, e.err = got, err
	e.arrives = time.Now().Add(n.takes(p.to.index, p.t.p.host.index))
	if e.arrives.After(timeout) {
		e.arrives, e.err = timeout, errLost
	}
}

func (p *pipeline) bringBack() {
	for {
		select {
		case e := <-p.answered:
			n := p.t.p.host.w.net
			if e.err != nil {
				n.sleep(time.Until(e.arrives))
			} else if !n.leg(p.to, p.t.p.host, e.arrives) || p.over() {
				e.err = errLost
				n.sleep(time.Until(e.began.Add(rpcTimeout)))
			} else {
				*e.resp = *e.got
			}
			if e.err != nil {
				p.breaks.Do(func() { close(p.broken) })
			}
			close(e.done)
			select {
			case p.ready <- e:
			case <-p.done:
				return
			case <-p.t.p.gone:
				return
			}
			if e.err != nil {
				return
			}
		case <-p.done:
			return
		case <-p.t.p.gone:
			return
		}
	}
}

func addrOf(index int) raft.ServerAddress { return raft.ServerAddress(fmt.Sprintf("host-%d", index)) }

func (w *world) at(a raft.ServerAddress) (*host, error) {
	var i int
	if _, err := fmt.Sscanf(strings.TrimPrefix(string(a), "host-"), "%d", &i); err != nil || i >= len(w.hosts) {
		return nil, fmt.Errorf("no host at %q", a)
	}
	return w.hosts[i], nil
}
