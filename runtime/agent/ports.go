package agent

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
)

// The ports that instances are given.
const (
	minPort = 30000
	maxPort = 40000
)

var errNoPort = errors.New("allocate port: every one from 30000 to 40000 is taken")

// ports hands out TCP ports that nobody listens on. It goes round, so that a freed port
// comes last; and it prefers ports that the kernel does not give to outgoing
// connections, because such a connection could take one before its program listens.
type ports struct {
	listen func(port int) bool // whether a program could listen on the port
	// claim keeps the port from other servers of the machine until release, which may be
	// nil, is called; false when one of them has it.
	claim func(port int) (release func(), ok bool)

	mu     sync.Mutex
	used   map[int]func() // what ends the claim
	ranges [2]portRange   // preferred ones first
}

// portRange is some of the ports, in the order of their numbers, and where to go on.
type portRange struct {
	all  []int
	next int
}

// newPorts prefers ports outside of [lowEphemeral, highEphemeral] and starts at the
// nth one of each range.
func newPorts(listen func(int) bool, lowEphemeral, highEphemeral, n int) *ports {
	p := &ports{
		listen: listen, used: make(map[int]func()),
		claim: func(int) (func(), bool) { return nil, true },
	}
	for port := minPort; port <= maxPort; port++ {
		r := &p.ranges[0]
		if lowEphemeral <= port && port <= highEphemeral {
			r = &p.ranges[1]
		}
		r.all = append(r.all, port)
	}
	for i := range p.ranges {
		if r := &p.ranges[i]; len(r.all) > 0 {
			r.next = n % len(r.all)
		}
	}
	return p
}

// take allocates a port.
func (p *ports) take() (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.ranges {
		r := &p.ranges[i]
		for range r.all {
			port := r.all[r.next]
			r.next = (r.next + 1) % len(r.all)
			if p.tryTake(port) {
				return port, nil
			}
		}
	}
	return 0, errNoPort
}

// tryTake takes the port if it is free. Between the look and the moment that a program
// listens another server of the machine could give the port away too, and the requests
// of one would reach the program of the other: the claim comes first.
func (p *ports) tryTake(port int) bool {
	if _, used := p.used[port]; used {
		return false
	}
	release, ok := p.claim(port)
	if !ok {
		return false
	}
	if !p.listen(port) {
		call(release)
		return false
	}
	p.used[port] = release
	return true
}

// reserve marks the port of an adopted instance as taken. The server that is about to
// end may still have the claim.
func (p *ports) reserve(port int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, used := p.used[port]; !used {
		p.used[port], _ = p.claim(port)
	}
}

func (p *ports) free(port int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	call(p.used[port])
	delete(p.used, port)
}

// close ends every claim; what runs keeps its port by listening on it.
func (p *ports) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, release := range p.used {
		call(release)
	}
	clear(p.used)
}

func call(f func()) {
	if f != nil {
		f()
	}
}

func (p *ports) inUse() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.used)
}

// ephemeralPorts returns the range from which the kernel takes the local ports of
// outgoing connections; an empty one where it doesn't say.
func ephemeralPorts() (low, high int) {
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return 0, -1
	}
	if _, err := fmt.Fscan(strings.NewReader(string(b)), &low, &high); err != nil {
		return 0, -1
	}
	return low, high
}
