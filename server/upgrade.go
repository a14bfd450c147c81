package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/tenement-fleet/tenement/api"
)

// upgrade is one request to be replaced; the reply comes when a successor serves, or
// when this server serves again.
type upgrade struct {
	request api.UpgradeRequest
	reply   chan<- upgradeReply // takes one without blocking
}

type upgradeReply struct {
	result api.UpgradeResult
	err    error
}

// upgrade implements httpapi's Upgrade.
func (s *server) upgrade(ctx context.Context, r api.UpgradeRequest) (api.UpgradeResult, error) {
	reply := make(chan upgradeReply, 1)
	if !s.upgrading.CompareAndSwap(false, true) {
		return api.UpgradeResult{}, api.Errorf(api.CodeConflict, "upgrade: this server is being replaced already")
	}
	s.upgrades <- upgrade{request: r, reply: reply} // has room for one
	select {
	case got := <-reply:
		return got.result, got.err
	case <-s.ended:
		return api.UpgradeResult{}, api.Errorf(api.CodeUnavailable, "upgrade: this server is about to end")
	case <-ctx.Done():
		return api.UpgradeResult{}, context.Cause(ctx)
	}
}

// replace starts a successor, lets it take over and lingers. It reports whether that
// happened; when it did not, this server serves on, unless its node is nil: then it can't.
func (s *server) replace(ctx context.Context, u upgrade) (replaced bool, err error) {
	defer func() {
		if err != nil && !replaced {
			s.upgrading.Store(false)
			u.reply <- upgradeReply{err: api.Errorf(api.CodeFailed, "upgrade: %w", err)}
		}
	}()
	next, err := s.prepare(ctx, u.request)
	if err != nil {
		return false, err
	}
	s.settle(ctx)
	old := s.node
	s.node = nil
	old.api.Close()
	if err := old.release(); err != nil {
		s.opts.Logger.Warn("closing the node for the successor", "error", err)
	}
	s.unlock()
	if err := next.takeOver(ctx); err != nil {
		return false, errors.Join(err, s.takeBack(context.WithoutCancel(ctx), old))
	}
	u.reply <- upgradeReply{result: api.UpgradeResult{PID: next.pid, Version: next.version}}
	s.linger(ctx, old, next)
	return true, nil
}

// prepare starts a successor and returns once it has said that it is ready.
func (s *server) prepare(ctx context.Context, r api.UpgradeRequest) (*successor, error) {
	program := cmp.Or(r.Path, s.opts.Program)
	if program == "" {
		var err error
		if program, err = ownProgram(); err != nil {
			return nil, err
		}
	}
	var doors []*door
	s.relays(func(d *door) { doors = append(doors, d) })
	next, err := startSuccessor(program, s.opts.Args, doors)
	if err != nil {
		return nil, err
	}
	bound, cancel := context.WithTimeout(ctx, successorReady)
	defer cancel()
	if next.version, err = next.conn.await(bound, wordReady); err != nil {
		return nil, next.abandon(fmt.Errorf("%s is not ready to take over: %w", program, err))
	}
	return next, nil
}

// settle holds new requests and gives the programs that requests wait for the time to
// come up: those requests can't be passed on.
func (s *server) settle(ctx context.Context) {
	// While requests flow, so that one slow program does not hold up all others.
	_ = bounded(ctx, settleWakes, s.node.proxy.Settle)
	s.relays(func(d *door) { d.relay.hold() })
	// And those that came between.
	if err := bounded(ctx, settleHeld, s.node.proxy.Settle); err != nil {
		s.opts.Logger.Warn("requests still wait for programs to start, their clients have to retry", "error", err)
	}
}

// takeBack makes this server serve again after a successor has failed. What the old
// node's proxy has under way goes on.
func (s *server) takeBack(ctx context.Context, old *node) error {
	s.past = append(s.past, old.proxy)
	if err := s.lockDir(); err != nil {
		return err
	}
	n, err := openNode(ctx, s.nodeConfig(func(ref api.Ref) bool { return old.router.InFlight(ref) > 0 }))
	if err != nil {
		return fmt.Errorf("take back: %w", err)
	}
	s.node = n
	s.serve()
	return nil
}

// linger passes on what still arrives on old connections and waits for the requests
// that the old node has under way; the end of ctx cuts it short.
func (s *server) linger(ctx context.Context, old *node, next *successor) {
	ctx, cancel := context.WithTimeout(ctx, drainReplaced)
	defer cancel()
	for _, d := range s.doors {
		if u, ok := d.Listener.(*net.UnixListener); ok {
			u.SetUnlinkOnClose(false) // it is the successor's now
		}
		_ = d.Close() // or this server would go on taking connections from the successor
	}
	web := newForwarder(next.conn.dial, s.opts.Logger)
	defer web.close()
	admin := newForwarder(func(ctx context.Context) (net.Conn, error) { // the kernel vouches for us, as it did for our clients
		var nd net.Dialer
		return nd.DialContext(ctx, "unix", s.adminSocket())
	}, s.opts.Logger)
	defer admin.close()
	s.relays(func(d *door) {
		if d.name == listenerAdmin {
			d.relay.serve(admin)
			return
		}
		d.relay.serve(web)
	})
	if err := s.drain(ctx); err != nil {
		s.opts.Logger.Info("connections that outlast the hand-over are cut off", "error", err)
	}
	old.proxy.Close()
	next.release()
}

// ownProgram returns the path that this process was started from, where a new version
// will be when the file, or a link on the way, has been replaced.
func ownProgram() (string, error) {
	p, err := exec.LookPath(os.Args[0])
	if err == nil {
		p, err = filepath.Abs(p)
	} else {
		p, err = os.Executable()
	}
	if err != nil {
		return "", fmt.Errorf("find own program: %w", err)
	}
	return p, nil
}
