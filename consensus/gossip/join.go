package gossip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
)

// ErrForeign means that something answered at the address, but not as a member of this
// cluster: another program, another cluster, or another secret.
var ErrForeign = errors.New("not a member of this cluster")

// JoinError says why an address could not be joined.
type JoinError struct {
	Address string
	Err     error
}

// Error implements error.
func (e *JoinError) Error() string { return fmt.Sprintf("join %s: %v", e.Address, e.Err) }

// Unwrap returns the cause.
func (e *JoinError) Unwrap() error { return e.Err }

// Join exchanges members with the nodes at addresses (host:port of their gossip) and
// returns how many of them answered. The error joins a [JoinError] for each that did
// not, also when others did.
func (p *Pool) Join(ctx context.Context, addresses ...string) (reached int, err error) {
	errs := make([]error, len(addresses))
	var wg sync.WaitGroup
	for i, a := range addresses {
		wg.Go(func() {
			if err := p.joinHost(ctx, a); err != nil {
				errs[i] = &JoinError{a, err}
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err == nil {
			reached++
		}
	}
	p.look()
	return reached, errors.Join(errs...)
}

// joinHost tries all IP addresses of a host until one answers.
func (p *Pool) joinHost(ctx context.Context, address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	ips, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		return err
	}
	var errs []error
	for _, ip := range ips {
		err := p.joinAddr(ctx, net.JoinHostPort(ip, port))
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (p *Pool) joinAddr(ctx context.Context, addr string) error {
	connected := p.net.watchJoin(addr)
	err := p.run(ctx, func() error {
		_, err := p.list.Join([]string{addr})
		return err
	})
	if connected() && err != nil && ctx.Err() == nil {
		return fmt.Errorf("%w (%w)", ErrForeign, err)
	}
	return err
}
