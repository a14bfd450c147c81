package auth

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"
)

type peerKey struct{}

// peer is who is at the other end of a unix socket.
type peer struct {
	uid     int
	trusted bool
}

// ConnContext marks the requests of a connection over the local socket whose peer is
// root or runs as the same user as this process, as the kernel tells it. It is meant for
// http.Server.ConnContext; a connection of any other kind stays unmarked.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	uid, err := peerUID(uc)
	if err != nil {
		return ctx // no proof, no trust: the peer needs a token
	}
	return context.WithValue(ctx, peerKey{}, peer{uid: uid, trusted: uid == 0 || uid == os.Geteuid()})
}

func peerOf(ctx context.Context) (peer, bool) {
	p, ok := ctx.Value(peerKey{}).(peer)
	return p, ok
}

// Listen opens the local admin socket at path with mode 0600. A socket that a server
// which is gone left behind is replaced; one that somebody still answers on is an error.
func Listen(ctx context.Context, path string) (*net.UnixListener, error) {
	if fi, err := os.Lstat(path); err == nil && fi.Mode()&os.ModeSocket == 0 {
		return nil, fmt.Errorf("listen on admin socket: %s exists and is no socket", path)
	}
	d := net.Dialer{Timeout: time.Second}
	if c, err := d.DialContext(ctx, "unix", path); err == nil {
		_ = c.Close() // nothing was said on it
		return nil, fmt.Errorf("listen on admin socket: another server answers on %s", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("listen on admin socket: %w", err)
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on admin socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, fmt.Errorf("listen on admin socket: %w", errors.Join(err, ln.Close()))
	}
	return ln.(*net.UnixListener), nil
}
