package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus"
	"github.com/tenement-fleet/tenement/consensus/transport"
	"github.com/tenement-fleet/tenement/server/peering"
)

// founding is how servers that start together agree on one of them to found the cluster.
// Each gives its promise to one candidate, on disk; a candidate that has the promises of
// all founds the cluster, and the others join it. Two candidates can't both have them.
type founding struct {
	mu     sync.Mutex
	status peering.Status
	path   string // of the promise
}

func newFounding(id consensus.Identity, expect int, name, version, path string) *founding {
	f := &founding{path: path, status: peering.Status{
		NodeID: id.ID, Name: name, ClusterID: id.ClusterID, Expect: expect, Version: version,
	}}
	if b, err := os.ReadFile(path); err == nil { //nolint:gosec // in the node's own directory
		_ = json.Unmarshal(b, &f.status.Promised) // what can't be read was never acknowledged
	}
	return f
}

// Status implements peering.Founder.
func (f *founding) Status() peering.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.status
}

// belongs notes the cluster that the server has become a member of.
func (f *founding) belongs(clusterID string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status.ClusterID = clusterID
}

// Promise implements peering.Founder.
func (f *founding) Promise(req peering.PromiseRequest) (peering.Status, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.status.ClusterID != "":
		return f.status, nil // the candidate sees that there is a cluster to join
	case req.Expect != f.status.Expect:
		return f.status, api.Errorf(api.CodeConflict, "promise to let %s found the cluster: it expects %d servers, this one %d",
			req.Candidate, req.Expect, f.status.Expect)
	case f.status.Promised == req.Candidate:
		return f.status, nil
	case f.status.Promised != "":
		return f.status, api.Errorf(api.CodeConflict, "promise to let %s found the cluster: server %s has the promise of this one; "+
			"if it is gone for good, stop this server and remove %s", req.Candidate, f.status.Promised, f.path)
	}
	if _, err := uuid.Parse(req.Candidate); err != nil {
		return f.status, api.Errorf(api.CodeInvalid, "promise: candidate %q is no node id", req.Candidate)
	}
	return f.status, f.keep(req.Candidate)
}

// keep stores the promise before it is given. The caller holds the lock.
func (f *founding) keep(candidate string) error {
	b, err := json.Marshal(candidate)
	if err == nil {
		err = replaceFile(f.path, b)
	}
	if err != nil {
		return fmt.Errorf("store promise: %w", err)
	}
	f.status.Promised = candidate
	return nil
}

const foundingPause = 500 * time.Millisecond

// prospect is what a server that wants to join has found.
type prospect struct {
	clusterID string // to join
	found     bool   // nobody has one, and this server is to found it
}

// look asks the servers to join until one has a cluster, or this server is to found one.
func (p *peers) look(ctx context.Context, addresses []string) (prospect, error) {
	said := ""
	for {
		out, why := p.lookOnce(ctx, addresses)
		if out != (prospect{}) {
			return out, nil
		}
		if why.Error() != said {
			said = why.Error()
			level, advice := p.advise(why)
			p.log.Log(ctx, level, "waiting to join a cluster"+advice, "servers", addresses, "reason", said)
		}
		select {
		case <-time.After(foundingPause):
		case <-ctx.Done():
			return prospect{}, fmt.Errorf("join cluster: %s: %w", said, context.Cause(ctx))
		}
	}
}

// advise says whether a reason to wait is one that does not pass by itself, and what to
// do then: the secret of the first start is kept, so another file alone changes nothing.
func (p *peers) advise(why error) (slog.Level, string) {
	if !errors.Is(why, transport.ErrCertificate) {
		return slog.LevelInfo, ""
	}
	return slog.LevelWarn, " that does not accept this server's secret: if both clocks are right, stop this server, " +
		"remove " + SecretPath(p.DataDir) + " and start it with the secret of that cluster, or with a join token"
}

// lookOnce returns what the servers say, and why that is not enough.
func (p *peers) lookOnce(ctx context.Context, addresses []string) (prospect, error) {
	peersSeen := map[string]string{} // node id → address, of those without a cluster
	why := errors.New("none of them answers")
	for _, a := range addresses {
		ask, cancel := context.WithTimeout(ctx, 2*time.Second)
		s, err := peering.StatusVia(ask, p.port.At(a))
		cancel()
		switch {
		case err != nil:
			why = fmt.Errorf("%s: %w", a, err)
		case s.NodeID == p.identity.ID:
		case s.ClusterID != "":
			return prospect{clusterID: s.ClusterID}, nil
		default:
			peersSeen[s.NodeID] = a
			why = errors.New(a + " is of no cluster itself")
		}
	}
	expect := p.Cluster.BootstrapExpect
	if expect == 0 {
		return prospect{}, why
	}
	if n := len(peersSeen) + 1; n < expect {
		return prospect{}, fmt.Errorf("%d of %d servers are here", n, expect)
	}
	return p.canvass(ctx, peersSeen)
}

// canvass asks for the promise of all, if this is the server with the lowest id.
func (p *peers) canvass(ctx context.Context, seen map[string]string) (prospect, error) {
	self := p.identity.ID
	for id := range seen {
		if id < self {
			return prospect{}, errors.New("server " + id + " is to found the cluster")
		}
	}
	req := peering.PromiseRequest{Candidate: self, Expect: p.Cluster.BootstrapExpect}
	if _, err := p.founding.Promise(req); err != nil {
		return prospect{}, err
	}
	for _, a := range seen {
		ask, cancel := context.WithTimeout(ctx, 2*time.Second)
		s, err := peering.PromiseVia(ask, p.port.At(a), req)
		cancel()
		if err != nil {
			return prospect{}, err
		}
		if s.ClusterID != "" {
			return prospect{clusterID: s.ClusterID}, nil
		}
	}
	return prospect{found: true}, nil
}

// join returns how consensus makes this node a member; nil if it founds a cluster, or is
// a member already.
func (p *peers) join(ctx context.Context) (*consensus.Join, error) {
	if p.identity.Member {
		return nil, nil
	}
	addresses := p.Cluster.Join
	if p.Cluster.TokenFile != "" && len(addresses) == 0 {
		token, err := readJoinToken(p.Config)
		if err != nil {
			return nil, err
		}
		addresses = token.Addresses
	}
	if len(addresses) == 0 {
		return nil, nil
	}
	clusterID := p.identity.ClusterID
	if clusterID == "" {
		to, err := p.look(ctx, addresses)
		if err != nil || to.found {
			return nil, err
		}
		clusterID = to.clusterID
	}
	return &consensus.Join{ClusterID: clusterID, Ask: func(ctx context.Context, self api.Node) error {
		return p.askToJoin(ctx, addresses, clusterID, self)
	}}, nil
}

// checkAlone returns an error if this server, alone in the cluster of the given id, was
// told to join servers of another one: it would serve as if nobody had asked.
func (p *peers) checkAlone(ctx context.Context, own string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for _, a := range p.Cluster.Join {
		s, err := peering.StatusVia(ctx, p.port.At(a))
		if err == nil && s.ClusterID != "" && s.ClusterID != own {
			return fmt.Errorf("join cluster: this server belongs to cluster %s, %s to %s: "+
				"move the data directory away to join as a new server, or don't tell it to join", own, a, s.ClusterID)
		}
	}
	return nil
}

// askToJoin asks one after the other to be made a member.
func (p *peers) askToJoin(ctx context.Context, addresses []string, clusterID string, self api.Node) error {
	var errs []error
	for _, a := range addresses {
		answer, err := peering.JoinVia(ctx, p.port.At(a), peering.JoinRequest{Node: self, ClusterID: clusterID})
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", a, err))
			switch api.CodeOf(err) {
			case api.CodeConflict, api.CodeInvalid, api.CodeForbidden:
				return errors.Join(consensus.ErrRefused, err)
			}
			continue
		}
		if answer.ClusterID != clusterID {
			return fmt.Errorf("%w: %s is of cluster %s, wanted %s", consensus.ErrRefused, a, answer.ClusterID, clusterID)
		}
		p.learned(answer.Nodes)
		return nil
	}
	return errors.Join(errs...)
}

// learned notes the addresses of nodes until the state has them.
func (p *peers) learned(nodes []api.Node) {
	known := make(map[string]string, len(nodes))
	for _, n := range nodes {
		known[n.ID] = n.PeerAddress
	}
	p.hints.Store(&known)
}

// replaceFile replaces a file so that after a crash it is the old one or the new one, and
// the new one for sure once this has returned.
func replaceFile(path string, b []byte) error {
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600) //nolint:gosec // in the node's own directory
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path)) //nolint:gosec // in the node's own directory
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
