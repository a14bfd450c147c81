//go:build unix

package upstream

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tenement-fleet/tenement/api"
)

func TestDialWaitsForAFullBacklog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	fd := listenUnix(t, path, 1)
	p := NewPool(api.Endpoint{Network: "unix", Address: path}, Config{})
	defer func() { _ = p.Close() }()
	var held []*Conn
	defer func() {
		for _, c := range held {
			c.Abort()
		}
	}()
	full := false
	for range 8 {
		c, err := p.Dial(t.Context(), time.Now().Add(30*time.Millisecond))
		if err != nil {
			if !errors.Is(err, ErrNotSent) {
				t.Fatal(err)
			}
			full = true
			break
		}
		held = append(held, c)
	}
	if !full {
		t.Skip("the backlog has no end here")
	}
	done := make(chan error)
	go func() {
		c, err := p.Dial(t.Context(), soon())
		if err == nil {
			c.Abort()
		}
		done <- err
	}()
	acceptOne(t, fd)
	if err := <-done; err != nil {
		t.Errorf("after a place got free: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Dial(ctx, soon()); !errors.Is(err, ErrNotSent) {
		t.Errorf("cancelled: %v", err)
	}
}

// listenUnix listens on a unix socket with a backlog that net.Listen does not offer.
func listenUnix(t *testing.T, path string, backlog int) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, backlog); err != nil {
		t.Fatal(err)
	}
	return fd
}

func acceptOne(t *testing.T, fd int) {
	t.Helper()
	nfd, _, err := unix.Accept(fd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(nfd) })
}
