package peering

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/http"
	"strconv"
	"strings"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus"
	"github.com/tenement-fleet/tenement/consensus/transport"
	"github.com/tenement-fleet/tenement/proxy"
)

// maxBody bounds a request's JSON. The largest is a batch of writes.
const maxBody = consensus.MaxForwardedBytes*4 + 1<<20

// prefix is before every path. A later version of what nodes say has another one.
const prefix = "/peer/v1"

// Node is this node as the others may use it.
type Node interface {
	// Knows reports whether a node is one of the cluster, as far as this one has heard.
	Knows(node string) bool
	Ping() Pong
	Join(ctx context.Context, from string, req JoinRequest) (JoinAnswer, error)
	// Leave tells the leader that a node stops and is expected back.
	Leave(ctx context.Context, node string) error
	// Authorize decides, as the leader, whether a node may act on behalf of an actor; see
	// consensus. The node is asked first for what follows.
	Authorize(from string, actor consensus.Actor) error
	// RestoreSnapshot replaces the whole state; see consensus.
	RestoreSnapshot(ctx context.Context, r io.Reader, force bool) error
	// RemoveMember and Promote act as the leader; see consensus.
	RemoveMember(ctx context.Context, id string, force bool) error
	Promote(ctx context.Context, id string) error

	ApplyForwarded(ctx context.Context, from string, batch []consensus.Forwarded) []consensus.ForwardResult
	VerifiedIndex(ctx context.Context) (uint64, error)
	GrantLease(ctx context.Context, node string) error
	// LeaseEnded reports, on the leader, whether a node's lease has certainly ended.
	LeaseEnded(ctx context.Context, node string) (bool, error)
	// Removed tells this node that it has been taken out of the cluster for good. It does
	// not believe everybody.
	Removed(from string) error
}

// Runtime is this node's instances; see httpapi.Runtime.
type Runtime interface {
	Wake(ctx context.Context, ref api.Ref) error
	Sleep(ctx context.Context, ref api.Ref) error
	Restart(ctx context.Context, ref api.Ref) error
	StorageUsage(ctx context.Context, ref api.Ref) (api.Storage, error)
	// SendData writes an instance's data directory as a tar archive, for the node that
	// the instance has moved to.
	SendData(ctx context.Context, ref api.Ref, to string, w io.Writer) error
}

// Logs is what this node's instances printed; see httpapi.Logs.
type Logs interface {
	Query(ctx context.Context, q api.LogQuery) ([]api.LogEntry, error)
	Follow(ctx context.Context, q api.LogQuery) iter.Seq2[api.LogEntry, error]
}

// Config is what a Handler is made of.
type Config struct {
	Node    Node
	Runtime Runtime
	Logs    Logs
	Founder Founder
	// Proxy gets the requests for this node's instances; see [proxy.Proxy.ServePeer].
	Proxy  http.Handler
	Logger *slog.Logger
}

// Handler answers the other nodes. Whoever has the cluster's secret can connect, also a
// server that has been removed; only nodes of the cluster are answered, but for what a
// server asks before it is one: what this one is, for a promise, to join, and whether it
// is there.
func Handler(cfg Config) http.Handler {
	h := &handler{cfg}
	mux := http.NewServeMux()
	h.on(mux, "GET /ping", func(*http.Request, string) (any, error) { return cfg.Node.Ping(), nil })
	h.on(mux, "POST /join", h.join)
	mux.Handle("/", h.nodesOnly(h.forNodes()))
	rest := FoundingHandler(cfg.Founder, mux)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get(proxy.HeaderInstance) == "":
			rest.ServeHTTP(w, r)
		case h.knows(r):
			cfg.Proxy.ServeHTTP(w, r)
		default: // the client of the other node waits while the nodes come to agree
			proxy.NotHere(w)
		}
	})
}

// forNodes answers the nodes of the cluster.
func (h *handler) forNodes() http.Handler {
	mux, node := http.NewServeMux(), h.Node
	h.on(mux, "POST /leave", func(r *http.Request, from string) (any, error) { return Empty{}, node.Leave(r.Context(), from) })
	h.on(mux, "POST /commands", h.commands)
	h.on(mux, "GET /index", func(r *http.Request, _ string) (any, error) { return node.VerifiedIndex(r.Context()) })
	h.on(mux, "POST /lease", func(r *http.Request, from string) (any, error) { return Empty{}, node.GrantLease(r.Context(), from) })
	h.on(mux, "GET /leases/{id}/ended", func(r *http.Request, _ string) (any, error) {
		return node.LeaseEnded(r.Context(), r.PathValue("id"))
	})
	h.on(mux, "POST /removed", func(_ *http.Request, from string) (any, error) { return Empty{}, node.Removed(from) })
	h.on(mux, "DELETE /members/{id}", h.authorized(func(r *http.Request, _ string) (any, error) {
		return Empty{}, node.RemoveMember(r.Context(), r.PathValue("id"), r.URL.Query().Get("force") != "")
	}))
	h.on(mux, "POST /members/{id}/promote", h.authorized(func(r *http.Request, _ string) (any, error) {
		return Empty{}, node.Promote(r.Context(), r.PathValue("id"))
	}))
	h.on(mux, "GET /instances/{ref}/storage", h.storage)
	for name, act := range map[string]func(context.Context, api.Ref) error{
		"wake": h.Runtime.Wake, "sleep": h.Runtime.Sleep, "restart": h.Runtime.Restart,
	} {
		h.on(mux, "POST /instances/{ref}/"+name, func(r *http.Request, _ string) (any, error) {
			ref, err := api.ParseRef(r.PathValue("ref"))
			if err != nil {
				return nil, err
			}
			return Empty{}, act(r.Context(), ref)
		})
	}
	h.on(mux, "POST /logs", h.logs)
	mux.HandleFunc("POST "+prefix+"/logs/stream", h.follow)
	mux.HandleFunc("POST "+prefix+"/snapshot", func(w http.ResponseWriter, r *http.Request) { h.reply(w, r, h.authorized(h.restore)) })
	mux.HandleFunc("GET "+prefix+"/instances/{ref}/data", h.data)
	return mux
}

func (h *handler) knows(r *http.Request) bool {
	from, _ := transport.PeerID(r.Context())
	return h.Node.Knows(from)
}

// headerUnknown marks the refusal of a node that is not known, or not yet.
const headerUnknown = "Tenement-Unknown"

func (h *handler) nodesOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h.knows(r) {
			next.ServeHTTP(w, r)
			return
		}
		from, _ := transport.PeerID(r.Context())
		w.Header().Set(headerUnknown, "1")
		WriteError(w, api.Errorf(api.CodeForbidden, "answer node %s: it is none of this cluster, as far as this server knows: one that has just joined "+
			"is known soon; one that has been removed can only join as a new one: stop it, move its data directory away and start it again", from))
	})
}

type handler struct{ Config }

// on has requests for a route, "METHOD /path", answered with what f returns.
func (h *handler) on(mux *http.ServeMux, route string, f answerFunc) {
	method, path, _ := strings.Cut(route, " ")
	mux.HandleFunc(method+" "+prefix+path, func(w http.ResponseWriter, r *http.Request) { h.answer(w, r, f) })
}

// answerFunc answers a request of a node.
type answerFunc func(r *http.Request, from string) (any, error)

// answer has f read JSON, and writes what it returns.
func (h *handler) answer(w http.ResponseWriter, r *http.Request, f answerFunc) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	h.reply(w, r, f)
}

// reply writes what f returns, or its error as a problem.
func (h *handler) reply(w http.ResponseWriter, r *http.Request, f answerFunc) {
	from, _ := transport.PeerID(r.Context())
	out, err := f(r, from)
	if err != nil {
		WriteError(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(out) // the peer may have gone
}

// headerNotLeader marks the answer of a node that was taken for the leader and is not.
const headerNotLeader = "Tenement-Not-Leader"

// WriteError answers with err as a problem.
func WriteError(w http.ResponseWriter, err error) {
	if errors.Is(err, consensus.ErrNotLeader) {
		w.Header().Set(headerNotLeader, "1")
	}
	e, ok := errors.AsType[*api.Error](err)
	if !ok {
		e = &api.Error{Code: api.CodeOf(err), Message: err.Error()}
		if fields, ok := errors.AsType[api.FieldErrors](err); ok {
			e.Fields = fields
		}
	} else if e.Message != err.Error() {
		c := *e
		c.Message = err.Error()
		e = &c
	}
	w.Header().Set("Content-Type", api.ProblemType)
	w.WriteHeader(e.Code.Status())
	_ = json.NewEncoder(w).Encode(e.Problem(http.StatusText(e.Code.Status()))) // the peer may have gone
}

func decode[T any](r *http.Request) (v T, err error) {
	if err := json.NewDecoder(r.Body).Decode(&v); err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return v, api.Errorf(api.CodeTooLarge, "read request: %w", err)
		}
		return v, api.Errorf(api.CodeInvalid, "read request: %w", err)
	}
	return v, nil
}

func (h *handler) join(r *http.Request, from string) (any, error) {
	req, err := decode[JoinRequest](r)
	if err != nil {
		return nil, err
	}
	return h.Node.Join(r.Context(), from, req)
}

func (h *handler) commands(r *http.Request, from string) (any, error) {
	batch, err := decode[[]consensus.Forwarded](r)
	if err != nil {
		return nil, err
	}
	if len(batch) > consensus.MaxForwarded {
		return nil, api.Errorf(api.CodeTooLarge, "apply commands: got %d, want at most %d", len(batch), consensus.MaxForwarded)
	}
	return h.Node.ApplyForwarded(r.Context(), from, batch), nil
}

func (h *handler) storage(r *http.Request, _ string) (any, error) {
	ref, err := api.ParseRef(r.PathValue("ref"))
	if err != nil {
		return nil, err
	}
	return h.Runtime.StorageUsage(r.Context(), ref)
}

func (h *handler) logs(r *http.Request, _ string) (any, error) {
	q, err := decode[api.LogQuery](r)
	if err != nil {
		return nil, err
	}
	return h.Logs.Query(r.Context(), q)
}

// follow streams entries as JSON, one a line, until the peer leaves.
func (h *handler) follow(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	q, err := decode[api.LogQuery](r)
	if err != nil {
		WriteError(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	out := http.NewResponseController(w)
	if out.Flush() != nil {
		return
	}
	enc := json.NewEncoder(w)
	for e, err := range h.Logs.Follow(r.Context(), q) {
		if err != nil || enc.Encode(e) != nil || out.Flush() != nil {
			return // the end of the stream says so, and is not taken for the end of the log
		}
	}
}

// restore takes a snapshot of any size.
func (h *handler) restore(r *http.Request, _ string) (any, error) {
	return Empty{}, h.Node.RestoreSnapshot(r.Context(), r.Body, r.URL.Query().Get("force") != "")
}

// headerActor says, as JSON, on whose behalf a node asks for what only the leader does.
const headerActor = "Tenement-Actor"

// authorized is f for those only who may have it done. Like a command that comes without
// an actor, a request that does is nobody's, and refused.
func (h *handler) authorized(f answerFunc) answerFunc {
	return func(r *http.Request, from string) (any, error) {
		var actor consensus.Actor
		if text := r.Header.Get(headerActor); text != "" {
			if err := json.Unmarshal([]byte(text), &actor); err != nil {
				return nil, api.Errorf(api.CodeInvalid, "read actor: %w", err)
			}
		}
		if err := h.Node.Authorize(from, actor); err != nil {
			return nil, err
		}
		return f(r, from)
	}
}

// trailerOK says, after a body, that it is whole.
const trailerOK = "Tenement-Complete"

func (h *handler) data(w http.ResponseWriter, r *http.Request) {
	from, _ := transport.PeerID(r.Context())
	ref, err := api.ParseRef(r.PathValue("ref"))
	if err != nil {
		WriteError(w, err)
		return
	}
	out := &startedWriter{w: w}
	w.Header().Set("Trailer", trailerOK)
	err = h.Runtime.SendData(r.Context(), ref, from, out)
	switch {
	case err == nil:
		w.Header().Set(trailerOK, strconv.FormatInt(out.n, 10))
	case out.n == 0:
		w.Header().Del("Trailer")
		WriteError(w, err)
	default:
		h.Logger.Warn("an instance's data could not be sent", "instance", ref, "to", from, "error", err)
		panic(http.ErrAbortHandler) // what was sent must not be taken for the whole
	}
}

type startedWriter struct {
	w io.Writer
	n int64
}

// Write implements io.Writer.
func (s *startedWriter) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.n += int64(n)
	if err != nil {
		err = fmt.Errorf("send to peer: %w", err)
	}
	return n, err
}
