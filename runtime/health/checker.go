package health

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// The bounds of one check.
const (
	// CheckTimeout is how long a program has to answer.
	CheckTimeout = 2 * time.Second

	maxHead     = 64 << 10 // of an answer: headers, interim answers included
	maxBody     = 64 << 10 // read so that the program can finish writing; not looked at
	maxInterims = 5        // 1xx answers before the real one
)

// CheckerConfig is what a Checker is made from.
type CheckerConfig struct {
	Timeout time.Duration // 0 means CheckTimeout
}

// Checker asks programs whether they are healthy. It may be used by many goroutines.
type Checker struct{ timeout time.Duration }

// NewChecker returns a Checker.
func NewChecker(cfg CheckerConfig) *Checker {
	if cfg.Timeout == 0 {
		cfg.Timeout = CheckTimeout
	}
	return &Checker{timeout: cfg.Timeout}
}

// Check returns nil when the program at ep answers GET path with status 200, redirects
// not followed, or, when path is empty, accepts a connection. Otherwise the error says
// what happened instead.
func (c *Checker) Check(ctx context.Context, ep api.Endpoint, path string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.timeout, fmt.Errorf("no answer within %v", c.timeout))
	defer cancel()
	if err := check(ctx, ep, path); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx) // says more than the "use of closed connection" that it led to
		}
		if path == "" {
			return fmt.Errorf("connect to %s: %w", ep.Address, err)
		}
		return fmt.Errorf("get %s: %w", path, err)
	}
	return nil
}

func check(ctx context.Context, ep api.Endpoint, path string) error {
	conn, err := new(net.Dialer).DialContext(ctx, ep.Network, ep.Address)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // whatever matters has been read
	if path == "" {
		return nil
	}
	// A connection of its own for each check: nothing lingers at a program that is to
	// sleep, and no goroutine of a pool here.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	return get(ctx, conn, path)
}

func get(ctx context.Context, conn net.Conn, path string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost"+path, nil)
	if err != nil {
		return err
	}
	req.Close = true
	req.Header.Set("User-Agent", "tenement-health")
	if err := req.Write(conn); err != nil {
		return err
	}
	limited := &io.LimitedReader{R: conn, N: maxHead}
	answers := bufio.NewReader(limited)
	for range maxInterims {
		resp, err := http.ReadResponse(answers, req)
		if err != nil {
			return fmt.Errorf("read answer: %w", err)
		}
		if resp.StatusCode >= 100 && resp.StatusCode < 200 && resp.StatusCode != http.StatusSwitchingProtocols {
			continue
		}
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("status %d, want 200", resp.StatusCode)
		}
		limited.N = maxBody
		_, _ = io.Copy(io.Discard, resp.Body) // healthy already; a body that breaks off changes nothing
		return nil
	}
	return errors.New("only interim answers")
}
