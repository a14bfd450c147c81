package peering

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus"
	"github.com/tenement-fleet/tenement/consensus/transport"
)

// Client asks other nodes. Contexts bound its calls.
type Client struct {
	// To returns a client whose requests all go to one node, by id; [transport.Transport]
	// has it. Probe returns one whose connections are not shared with anything large.
	To, Probe func(node string) *http.Client
}

// Ping asks whether a node answers.
func (c *Client) Ping(ctx context.Context, node string) (Pong, error) {
	return call[Pong](ctx, c.Probe(node), http.MethodGet, "/ping", nil)
}

// Leave tells the leader that this node stops for a while.
func (c *Client) Leave(ctx context.Context, leader string) error {
	return c.post(ctx, leader, "/leave", Empty{})
}

// Join asks a node to make the node of req a member.
func (c *Client) Join(ctx context.Context, node string, req JoinRequest) (JoinAnswer, error) {
	return JoinVia(ctx, c.To(node), req)
}

// JoinVia asks the server that a client reaches.
func JoinVia(ctx context.Context, h *http.Client, req JoinRequest) (JoinAnswer, error) {
	return call[JoinAnswer](ctx, h, http.MethodPost, "/join", req)
}

// StatusVia asks the server that a client reaches what it is.
func StatusVia(ctx context.Context, h *http.Client) (Status, error) {
	return call[Status](ctx, h, http.MethodGet, "/status", nil)
}

// PromiseVia asks the server that a client reaches to let a candidate found the cluster.
func PromiseVia(ctx context.Context, h *http.Client, req PromiseRequest) (Status, error) {
	return call[Status](ctx, h, http.MethodPost, "/promise", req)
}

// Forward sends writes to the leader; see consensus.Config.
func (c *Client) Forward(ctx context.Context, leader string, batch []consensus.Forwarded) ([]consensus.ForwardResult, error) {
	out, err := call[[]consensus.ForwardResult](ctx, c.To(leader), http.MethodPost, "/commands", batch)
	if err == nil && len(out) != len(batch) {
		err = api.Errorf(api.CodeInternal, "forward writes: %d answers to %d commands", len(out), len(batch))
	}
	return out, err
}

// ReadIndex returns the leader's index, verified with a quorum; see consensus.Config.
func (c *Client) ReadIndex(ctx context.Context, leader string) (uint64, error) {
	return call[uint64](ctx, c.To(leader), http.MethodGet, "/index", nil)
}

// Lease asks the leader for this node's lease.
func (c *Client) Lease(ctx context.Context, leader string) error {
	return c.post(ctx, leader, "/lease", Empty{})
}

// LeaseEnded asks the leader whether a node's lease has certainly ended.
func (c *Client) LeaseEnded(ctx context.Context, leader, node string) (bool, error) {
	return call[bool](ctx, c.To(leader), http.MethodGet, "/leases/"+url.PathEscape(node)+"/ended", nil)
}

// RemoveMember asks the leader to remove a node for good, on behalf of ctx's actor.
func (c *Client) RemoveMember(ctx context.Context, leader, id string, force bool) error {
	path := "/members/" + url.PathEscape(id)
	if force {
		path += "?force=1"
	}
	_, err := call[Empty](ctx, c.To(leader), http.MethodDelete, path, nil)
	return err
}

// Removed tells a node that it has been removed: Raft no longer talks to it.
func (c *Client) Removed(ctx context.Context, node string) error {
	return c.post(ctx, node, "/removed", Empty{})
}

// Promote asks the leader to give a node a vote, on behalf of ctx's actor.
func (c *Client) Promote(ctx context.Context, leader, id string) error {
	return c.post(ctx, leader, "/members/"+url.PathEscape(id)+"/promote", Empty{})
}

// RestoreSnapshot has the leader replace the whole state, on behalf of ctx's actor.
func (c *Client) RestoreSnapshot(ctx context.Context, leader string, r io.Reader, force bool) error {
	path := "/snapshot"
	if force {
		path += "?force=1"
	}
	res, err := sendBody(ctx, c.To(leader), http.MethodPost, path, r)
	if err != nil {
		return err
	}
	return res.Body.Close()
}

// Wake has the node of an instance wake it.
func (c *Client) Wake(ctx context.Context, node string, ref api.Ref) error {
	return c.post(ctx, node, instancePath(ref)+"/wake", Empty{})
}

// Sleep has the node of an instance put it to sleep.
func (c *Client) Sleep(ctx context.Context, node string, ref api.Ref) error {
	return c.post(ctx, node, instancePath(ref)+"/sleep", Empty{})
}

// Restart has the node of an instance restart it.
func (c *Client) Restart(ctx context.Context, node string, ref api.Ref) error {
	return c.post(ctx, node, instancePath(ref)+"/restart", Empty{})
}

// StorageUsage has a node measure its instance's data.
func (c *Client) StorageUsage(ctx context.Context, node string, ref api.Ref) (api.Storage, error) {
	return call[api.Storage](ctx, c.To(node), http.MethodGet, instancePath(ref)+"/storage", nil)
}

// Query searches a node's logs.
func (c *Client) Query(ctx context.Context, node string, q api.LogQuery) ([]api.LogEntry, error) {
	return call[[]api.LogEntry](ctx, c.To(node), http.MethodPost, "/logs", q)
}

// maxLine bounds one entry of a followed log: 64 KiB of text, escaped.
const maxLine = 1 << 20

// Follow follows a node's logs. A stream that ends without ctx having ended is an error.
func (c *Client) Follow(ctx context.Context, node string, q api.LogQuery) iter.Seq2[api.LogEntry, error] {
	return func(yield func(api.LogEntry, error) bool) {
		res, err := send(ctx, c.To(node), http.MethodPost, "/logs/stream", q)
		if err != nil {
			yield(api.LogEntry{}, err)
			return
		}
		defer res.Body.Close() //nolint:errcheck // only read
		lines := bufio.NewScanner(res.Body)
		lines.Buffer(nil, maxLine)
		for lines.Scan() {
			var e api.LogEntry
			if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
				yield(e, fmt.Errorf("follow logs of node %s: %w", node, err))
				return
			}
			if !yield(e, nil) {
				return
			}
		}
		if ctx.Err() == nil {
			err := lines.Err()
			if err == nil {
				err = io.ErrUnexpectedEOF
			}
			yield(api.LogEntry{}, api.Errorf(api.CodeUnavailable, "follow logs of node %s: %w", node, err))
		}
	}
}

// FetchData writes an instance's data directory, as a tar archive, that a node holds. An
// archive that is not whole is an error.
func (c *Client) FetchData(ctx context.Context, node string, ref api.Ref, w io.Writer) error {
	res, err := send(ctx, c.To(node), http.MethodGet, instancePath(ref)+"/data", nil)
	if err != nil {
		return err
	}
	defer res.Body.Close() //nolint:errcheck // only read
	n, err := io.Copy(w, res.Body)
	if err != nil {
		return fmt.Errorf("fetch data of %s: %w", ref, err)
	}
	if got := res.Trailer.Get(trailerOK); got != strconv.FormatInt(n, 10) {
		return fmt.Errorf("fetch data of %s: %w: %d bytes came, the node says %q", ref, io.ErrUnexpectedEOF, n, got)
	}
	return nil
}

func instancePath(ref api.Ref) string { return "/instances/" + url.PathEscape(ref.String()) }

func (c *Client) post(ctx context.Context, node, path string, body any) error {
	_, err := call[Empty](ctx, c.To(node), http.MethodPost, path, body)
	return err
}

// maxAnswer bounds an answer: log queries have the largest.
const maxAnswer = 64 << 20

func call[T any](ctx context.Context, h *http.Client, method, path string, body any) (out T, err error) {
	res, err := send(ctx, h, method, path, body)
	if err != nil {
		return out, err
	}
	defer res.Body.Close() //nolint:errcheck // only read
	if err := json.NewDecoder(io.LimitReader(res.Body, maxAnswer)).Decode(&out); err != nil {
		return out, fmt.Errorf("read answer of peer: %w", err)
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 1<<10)) // so that the connection is free again
	return out, nil
}

const (
	// unknownWait is how long a node asks again that does not know this one: a node that
	// has joined is known everywhere a moment later.
	unknownWait  = 2 * time.Second
	unknownPause = 50 * time.Millisecond
)

// errUnknown is wrapped when the other node does not know this one.
var errUnknown = fmt.Errorf("%w: the other node does not know this one", consensus.ErrNotSent)

// send returns the response to a request that went well. An error after which nothing
// can have happened wraps consensus.ErrNotSent or consensus.ErrNotLeader.
func send(ctx context.Context, h *http.Client, method, path string, body any) (*http.Response, error) {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
	}
	for end := time.Now().Add(unknownWait); ; {
		res, err := sendBody(ctx, h, method, path, bytes.NewReader(text))
		if !errors.Is(err, errUnknown) || time.Now().After(end) {
			return res, err
		}
		select {
		case <-time.After(unknownPause):
		case <-ctx.Done():
			return nil, err
		}
	}
}

func sendBody(ctx context.Context, h *http.Client, method, path string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "https://peer"+prefix+path, body)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	if err := nameActor(req); err != nil {
		return nil, err
	}
	res, err := h.Do(req)
	if err != nil {
		return nil, notSent(err)
	}
	if res.StatusCode < 300 {
		return res, nil
	}
	defer res.Body.Close() //nolint:errcheck // only read
	var p api.Problem
	if err := json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&p); err != nil || p.Code == "" {
		return nil, fmt.Errorf("ask peer: %s", res.Status)
	}
	switch {
	case res.Header.Get(headerNotLeader) != "":
		return nil, &nothingDone{p.Err(), consensus.ErrNotLeader}
	case res.Header.Get(headerUnknown) != "":
		return nil, &nothingDone{p.Err(), errUnknown}
	default:
		return nil, p.Err()
	}
}

// nameActor says on whose behalf a request is; see consensus.WithActor.
func nameActor(req *http.Request) error {
	actor := consensus.ActorOf(req.Context())
	if actor == (consensus.Actor{}) {
		return nil
	}
	b, err := json.Marshal(actor)
	if err != nil {
		return fmt.Errorf("encode actor: %w", err)
	}
	req.Header.Set(headerActor, string(b))
	return nil
}

// nothingDone is an error of another node that has certainly done nothing.
type nothingDone struct{ err, why error }

// Error implements error.
func (e *nothingDone) Error() string { return e.err.Error() }

// Unwrap makes both known to errors.Is and errors.As.
func (e *nothingDone) Unwrap() []error { return []error{e.err, e.why} }

// notSent marks the errors of connections that were never made.
func notSent(err error) error {
	if e, ok := errors.AsType[*transport.Error](err); ok && e.Dial {
		return fmt.Errorf("%w: %w", consensus.ErrNotSent, err)
	}
	return err
}
