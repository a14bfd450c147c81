package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/proxy/route"
	"github.com/tenement-fleet/tenement/proxy/upstream"
)

// What nodes tell each other about a request that one passes on to another. Nobody else
// is believed: from clients these fields never come through.
const (
	// HeaderInstance names the instance that a request between nodes is for.
	HeaderInstance = "Tenement-Instance"
	// headerExpects says that it was the client who asked for 100 Continue: every body
	// waits for that between nodes, so that what was refused can still go elsewhere.
	headerExpects = "Tenement-Expects"
	// headerMoved, on a 421, says that the instance is not on the node that was asked.
	headerMoved = "Tenement-Moved"
)

// peerDial bounds a connection to another node: one that takes longer is as good as down.
const peerDial = 2 * time.Second

// movedPause is how long the routing tables of two nodes are given to agree.
const movedPause = 20 * time.Millisecond

// errMoved is the answer of a node that does not have the instance (any more).
var errMoved = fmt.Errorf("%w: the instance is on another node", upstream.ErrNotSent)

// errMovedOn ends a request from a peer whose instance has left this node meanwhile.
var errMovedOn = &failure{status: http.StatusMisdirectedRequest, text: textUnavailable}

// Peers reaches the other nodes.
type Peers interface {
	// Dial connects to a node's peer port, for HTTP/2 or for HTTP/1.1, and returns once
	// either side knows who the other one is.
	Dial(ctx context.Context, node string, http2 bool) (net.Conn, error)
}

// poolConfig returns how the connections to an endpoint are made.
func (p *Proxy) poolConfig(ep api.Endpoint) upstream.Config {
	cfg := p.upstream
	if ep.Network == route.PeerNetwork {
		cfg.Dial = func(ctx context.Context, http2 bool) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, peerDial)
			defer cancel()
			return p.peers.Dial(ctx, ep.Address, http2)
		}
	}
	return cfg
}

// NotHere answers a request that another node passes on for an instance that is not on
// this node, or not yet: the other one looks again where it is.
func NotHere(w http.ResponseWriter) {
	w.Header().Set(headerMoved, "1")
	w.WriteHeader(http.StatusMisdirectedRequest)
}

// ServePeer serves a request that another node passes on: its client came there, and
// what that node says of it is true. The instance is here, or the answer is 421; such a
// request never goes to a third node.
func (p *Proxy) ServePeer(w http.ResponseWriter, r *http.Request) {
	ref, err := api.ParseRef(r.Header.Get(HeaderInstance))
	if err != nil {
		p.refuse(w, r, &failure{status: http.StatusBadRequest, text: textBadRequest, cause: err})
		return
	}
	m := route.Match{Kind: route.Direct, ID: ref.ID}
	if s, ok := p.router.Service(ref.Service); ok {
		m.Service = s
		m.Target, _ = s.Target(ref.ID)
	}
	if m.Target == nil || !m.Target.Here() {
		w.Header().Set(headerMoved, "1")
		p.refuse(w, r, errMovedOn)
		return
	}
	p.forward(w, r, m, true) //nolint:contextcheck // the request carries it
}

// unreached deals with a request of which nothing was sent to another node: it waits
// for the node's return, or for the instance to be placed anew. It reports whether that
// is so.
func (c *call) unreached(backend *route.Backend, err error) bool {
	if backend.Peer == nil || !errors.Is(err, upstream.ErrNotSent) || time.Now().After(c.holdLimit()) {
		return false
	}
	if !errors.Is(err, errMoved) {
		backend.Peer.Suspect()
		return true
	}
	return c.sleep(movedPause) == nil
}

// peerDeadline bounds the first byte from another node, which may have to wake the
// instance first.
func (c *call) peerDeadline() time.Time {
	return time.Now().Add(c.spec.StartupTimeout.Std() + c.p.allowance + c.spec.RequestTimeout.Std())
}
