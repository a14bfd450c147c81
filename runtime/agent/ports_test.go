package agent

import (
	"errors"
	"net"
	"testing"

	"pgregory.net/rapid"
)

func free(int) bool { return true }

// TestPortsGoRound: a freed port comes last, and ports of outgoing connections after all
// others.
func TestPortsGoRound(t *testing.T) {
	p := newPorts(free, 32768, 60999, 5000)
	first, err := p.take()
	if err != nil {
		t.Fatal(err)
	}
	p.free(first)
	const preferred = 32768 - minPort
	for i := range preferred - 1 {
		port, err := p.take()
		if err != nil || port == first || port >= 32768 {
			t.Fatalf("take %d: %d, %v", i, port, err)
		}
	}
	if port, _ := p.take(); port != first {
		t.Errorf("got %d, want the freed %d last", port, first)
	}
	if port, _ := p.take(); port < 32768 {
		t.Errorf("got %d twice", port)
	}
}

func TestPortsRunOut(t *testing.T) {
	p := newPorts(free, 0, -1, 0)
	for range maxPort - minPort + 1 {
		if _, err := p.take(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.take(); !errors.Is(err, errNoPort) {
		t.Errorf("error %v", err)
	}
	p.free(30007)
	if port, err := p.take(); port != 30007 || err != nil {
		t.Errorf("got %d, %v", port, err)
	}
}

// TestPortsAreUnique whatever is taken, freed and reserved.
func TestPortsAreUnique(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		listening := rapid.MapOf(rapid.IntRange(minPort, maxPort), rapid.Just(true)).Draw(t, "listening")
		low := rapid.IntRange(minPort-10, maxPort+10).Draw(t, "low")
		p := newPorts(func(port int) bool { return !listening[port] }, low, low+rapid.IntRange(-1, 20000).Draw(t, "width"), rapid.IntRange(0, 1<<20).Draw(t, "begin"))
		mine := make(map[int]bool)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 2).Draw(t, "step") {
			case 0:
				port := rapid.IntRange(minPort, maxPort).Draw(t, "reserved")
				p.reserve(port)
				mine[port] = true
			case 1:
				for port := range mine {
					p.free(port)
					delete(mine, port)
					break
				}
			default:
				port, err := p.take()
				if err != nil || mine[port] || listening[port] || port < minPort || port > maxPort {
					t.Fatalf("took %d: %v", port, err)
				}
				mine[port] = true
			}
			if p.inUse() != len(mine) {
				t.Fatalf("%d in use, want %d", p.inUse(), len(mine))
			}
		}
	})
}

// TestCanListen sees whoever listens, on any address.
func TestCanListen(t *testing.T) {
	for _, at := range []struct{ network, address string }{
		{"tcp4", "127.0.0.1:0"}, {"tcp4", "127.0.0.9:0"}, {"tcp4", "0.0.0.0:0"}, {"tcp6", "[::]:0"}, {"tcp6", "[::1]:0"}, {"tcp", ":0"},
	} {
		ln, err := net.Listen(at.network, at.address)
		if err != nil {
			t.Logf("not tried: %v", err)
			continue
		}
		port := ln.Addr().(*net.TCPAddr).Port
		if canListen(port) {
			t.Errorf("somebody listens at %s and is not seen", ln.Addr())
		}
		if err := ln.Close(); err != nil {
			t.Fatal(err)
		}
		if !canListen(port) {
			t.Errorf("nobody listens at %s any more", ln.Addr())
		}
	}
}

func TestEphemeralPorts(t *testing.T) {
	if low, high := ephemeralPorts(); low > high && high != -1 || low < 0 {
		t.Errorf("got %d to %d", low, high)
	}
}
