package gossip

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"
)

// simulate opens n nodes on a network in memory, with the settings of production.
func simulate(t *testing.T, net *Network, n int) []*Pool {
	t.Helper()
	if raceDetector {
		t.Skip("the race detector crashes in a bubble with many timers: golang/go#78156")
	}
	// memberlist's last probes end a while after Close, and a bubble's time stands still
	// once its test has returned.
	t.Cleanup(func() { time.Sleep(time.Minute) })
	pools := make([]*Pool, n)
	for i := range pools {
		cfg := testConfig(t, fmt.Sprintf("n%d", i))
		cfg.tune, cfg.Logger = nil, slog.New(slog.DiscardHandler)
		var err error
		if cfg.Transport, err = net.Transport(addr(byte(i + 1))); err != nil {
			t.Fatal(err)
		}
		pools[i] = open(t, cfg)
		if i > 0 {
			join(t, pools[i], pools[0])
		}
	}
	return pools
}

// count returns how many members p sees in a state.
func count(p *Pool, s State) (n int) {
	for _, m := range p.Members() {
		if m.State == s {
			n++
		}
	}
	return n
}

// within waits until ok holds for all pools and returns how long that took.
func within(t *testing.T, limit time.Duration, pools []*Pool, what string, ok func(*Pool) bool) time.Duration {
	t.Helper()
	start := time.Now()
	for _, p := range pools {
		timeout := time.After(limit - time.Since(start))
		for {
			changed := p.Changed()
			if ok(p) {
				break
			}
			select {
			case <-changed:
			case <-timeout:
				t.Fatalf("%s: not %s after %v: %+v", p.cfg.Meta.Name, what, limit, p.Members())
			}
		}
	}
	return time.Since(start)
}

func TestTwentyNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := NewNetwork()
		pools := simulate(t, net, 20)
		left, right := pools[:8], pools[8:]
		sees := func(alive int) func(*Pool) bool {
			return func(p *Pool) bool { return count(p, StateAlive) == alive }
		}
		t.Log("converged after", within(t, time.Minute, pools, "converged", sees(20)))

		for _, a := range left {
			for _, b := range right {
				net.Cut(a.Addr(), b.Addr())
			}
		}
		suspects := func(p *Pool) bool { return count(p, StateSuspect) > 0 }
		t.Log("suspicion after", within(t, 30*time.Second, pools, "suspicious", suspects))
		gaveUp := func(dead int) func(*Pool) bool {
			return func(p *Pool) bool { return count(p, StateDead) == dead }
		}
		t.Log("left half gave the right one up after", within(t, 3*time.Minute, left, "alone", gaveUp(12)))
		t.Log("right half gave the left one up after", within(t, 3*time.Minute, right, "alone", gaveUp(8)))

		time.Sleep(3 * time.Minute) // long after memberlist has forgotten the other half
		net.HealAll()
		t.Log("healed after", within(t, 5*time.Minute, pools, "healed", sees(20)))
	})
}

// 30 % loss and 200 ± 100 ms on the way give no node up for long, and never two at a time.
// That none is given up at all memberlist can't promise: its queue starts counting anew
// whenever it is empty for a moment (TransmitLimitedQueue.deleteItem), so that two messages
// of one length may get one number, and the second then replaces the first. If that was a
// refutation that nobody has heard yet, then only the next word of that node helps.
func TestBadNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := NewNetwork()
		pools := simulate(t, net, 5)
		net.SetFault(func(_, _ netip.AddrPort, packet bool) (time.Duration, bool) {
			delay := 100*time.Millisecond + rand.N(200*time.Millisecond)
			return delay, packet && rand.N(100) < 30
		})
		var given, looks, suspected int
		for range 300 {
			time.Sleep(time.Second)
			for _, p := range pools {
				dead := 0
				for _, m := range p.Members() {
					if m.State != StateDead {
						continue
					}
					dead++
					if d := time.Since(m.Since); d > 45*time.Second {
						t.Errorf("%s has given up %s, which is alive, for %v", p.cfg.Meta.Name, m.Name, d)
					}
				}
				if dead > 1 {
					t.Errorf("%s gave up %d members at a time", p.cfg.Meta.Name, dead)
				}
				given += dead
				suspected += count(p, StateSuspect)
				looks += len(pools) - 1
			}
		}
		if given*50 > looks {
			t.Errorf("members that are alive were given up %d of %d times that they were looked at", given, looks)
		}
		if suspected == 0 {
			t.Error("nobody was suspected: the network is not bad")
		}
		net.SetFault(nil)
		within(t, 5*time.Minute, pools, "well again", func(p *Pool) bool { return count(p, StateAlive) == 5 })
	})
}

func TestNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := NewNetwork()
		a, err := net.Transport(addr(1))
		if err != nil {
			t.Fatal(err)
		}
		b, err := net.Transport(addr(2))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := net.Transport(addr(1)); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("an address taken twice: %v", err)
		}
		to := memberlist.Address{Addr: addr(2).String()}
		send := func() bool {
			if _, err := a.WriteToAddress([]byte("hello"), to); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			select {
			case p := <-b.PacketCh():
				return p.From.String() == addr(1).String() && string(p.Buf) == "hello"
			default:
				return false
			}
		}
		dial := func() (time.Duration, error) {
			stop := make(chan struct{})
			go func() {
				select {
				case c := <-b.StreamCh():
					c.Close()
				case <-stop:
				}
			}()
			defer close(stop)
			start := time.Now()
			c, err := a.DialAddressTimeout(to, time.Second)
			if err == nil {
				c.Close()
			}
			return time.Since(start), err
		}
		if !send() {
			t.Error("packet lost")
		}
		if _, err := dial(); err != nil {
			t.Error(err)
		}
		net.CutOneWay(addr(2), addr(1))
		if !send() {
			t.Error("a cut the other way lost a packet")
		}
		if d, err := dial(); d != time.Second || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a stream over a cut: %v after %v", err, d)
		}
		net.Cut(addr(1), addr(2))
		if send() {
			t.Error("a packet got through a cut")
		}
		net.Heal(addr(2), addr(1))
		if !send() {
			t.Error("a packet is lost after the cut")
		}
		net.SetFault(func(netip.AddrPort, netip.AddrPort, bool) (time.Duration, bool) { return 300 * time.Millisecond, false })
		if d, err := dial(); d != 600*time.Millisecond || err != nil {
			t.Errorf("a slow stream: %v after %v", err, d)
		}
		net.SetFault(nil)
		if err := b.Shutdown(); err != nil {
			t.Fatal(err)
		}
		if _, err := a.DialAddressTimeout(to, time.Second); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("a stream to nobody: %v", err)
		}
	})
}
