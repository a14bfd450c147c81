package route

import (
	"io"
	"sync"
	"sync/atomic"

	"github.com/tenement-fleet/tenement/api"
)

// Backend is one run of an instance behind one endpoint: it lives from the gate's
// opening to its closing. What the proxy keeps for it, its pooled connections, hangs
// on it and goes with it.
type Backend struct {
	Endpoint api.Endpoint
	// Peer is the node behind the endpoint, when that is another one; then the backend
	// lives from the node's coming up to its going down.
	Peer *Peer

	attached attachment
	retired  chan struct{}
}

func newBackend(ep api.Endpoint) *Backend {
	return &Backend{Endpoint: ep, retired: make(chan struct{})}
}

// Attached returns what hangs on the backend, made by open the first time. It is
// closed when the backend retires.
func (b *Backend) Attached(open func(api.Endpoint) io.Closer) io.Closer {
	return b.attached.get(func() io.Closer { return open(b.Endpoint) })
}

// Retired is closed when the gate has closed: the endpoint may no longer be used for
// new requests.
func (b *Backend) Retired() <-chan struct{} { return b.retired }

func (b *Backend) close() {
	close(b.retired)
	b.attached.close()
}

// attachment is a value that is made on first use and closed once with its owner.
type attachment struct {
	value  atomic.Pointer[io.Closer]
	mu     sync.Mutex // guards making and closing
	closed bool
}

func (a *attachment) get(open func() io.Closer) io.Closer {
	if v := a.value.Load(); v != nil {
		return *v
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if v := a.value.Load(); v != nil {
		return *v
	}
	v := open()
	a.value.Store(&v)
	if a.closed {
		_ = v.Close() // born closed: its owner is gone, late users find it so
	}
	return v
}

func (a *attachment) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	if v := a.value.Load(); v != nil {
		_ = (*v).Close()
	}
}
