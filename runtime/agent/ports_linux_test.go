package agent

import "testing"

// TestClaim: two servers of one machine never give the same port away, though neither's
// program listens yet; a port is free for the other once it has been given back.
func TestClaim(t *testing.T) {
	one := newPorts(canListen, 0, -1, 0)
	two := newPorts(canListen, 0, -1, 0) // begins at the same port
	one.claim, two.claim = claimPort, claimPort
	defer one.close()
	defer two.close()
	seen := map[int]bool{}
	for range 50 {
		for _, p := range []*ports{one, two} {
			port, err := p.take()
			if err != nil {
				t.Fatal(err)
			}
			if seen[port] {
				t.Fatalf("port %d was given away twice", port)
			}
			seen[port] = true
		}
	}
	port, err := one.take()
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := claimPort(port); ok {
		t.Errorf("port %d can be claimed twice", port)
	}
	one.free(port)
	release, ok := claimPort(port)
	if !ok {
		t.Errorf("port %d can't be claimed after it was given back", port)
	}
	call(release)
}
