package chaos

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// filter replaces the packet filter of the machine's namespace.
func (m *machine) filter(rules ...string) {
	m.t.Helper()
	table := "table inet chaos\ndelete table inet chaos\n"
	if len(rules) > 0 {
		table += "table inet chaos { chain in { type filter hook input priority 0; " + strings.Join(rules, "; ") + "; }; }\n"
	}
	cmd := exec.Command("nsenter", "--net=/run/netns/"+m.name, "nft", "-f", "-") //nolint:gosec // the names are ours
	cmd.Stdin = strings.NewReader(table)
	if out, err := cmd.CombinedOutput(); err != nil {
		m.t.Fatalf("nft: %v: %s\n%s", err, out, table)
	}
}

// deafTo drops what comes from the others.
func (m *machine) deafTo(others ...*machine) {
	m.t.Helper()
	var rules []string
	for _, o := range others {
		rules = append(rules, "ip saddr "+o.ip+" drop")
	}
	m.filter(rules...)
}

func (f *fleet) heal() {
	for _, m := range f.nodes {
		m.filter()
	}
}

// leaders notes who leads, as the nodes themselves see it, until stop is called.
func (f *fleet) leaders() (stop func() []string) {
	ctx, cancel := context.WithCancel(f.t.Context())
	var mu sync.Mutex
	var seen []string
	var wg sync.WaitGroup
	for _, m := range f.nodes {
		wg.Go(func() {
			last := ""
			for ctx.Err() == nil {
				if c, err := m.cluster(); err == nil && c.Leader == c.Node && last != c.Leader {
					mu.Lock()
					seen = append(seen, m.name)
					mu.Unlock()
					last = c.Leader
				} else if err == nil && c.Leader != c.Node {
					last = ""
				}
				time.Sleep(50 * time.Millisecond)
			}
		})
	}
	return func() []string { cancel(); wg.Wait(); return seen }
}

// TestPartitions: a node is cut off, hears nobody, or loses one of the others.
func TestPartitions(t *testing.T) {
	f := startFleet(t, plain, 6)
	l := f.load(6)
	for n := range *partitions {
		m := f.pick()
		others := f.others(m)
		h, stop := f.history(), f.leaders()
		time.Sleep(200 * time.Millisecond)
		kind := []string{"symmetric", "one-way", "bridge"}[n%3]
		switch kind {
		case "symmetric":
			m.deafTo(others...)
			others[0].deafTo(m)
			others[1].deafTo(m)
		case "one-way":
			m.deafTo(others...)
		case "bridge":
			m.deafTo(others[0])
			others[0].deafTo(m)
		}
		took := f.between(time.Second, 12*time.Second)
		time.Sleep(took)
		if kind == "symmetric" && took > 6*time.Second {
			f.refuses(m)
		}
		f.heal()
		time.Sleep(time.Second)
		h.end()
		f.until("all is well", 2*patience, f.well)
		if leaders := stop(); len(leaders) > 2 {
			t.Errorf("%d: %s partition of %s for %s: leaders %v", n, kind, m.name, took.Round(time.Millisecond), leaders)
		}
	}
	l.end(3)
}

// refuses checks that the machine, cut off, neither writes nor reads consistently, but
// says what it knows.
func (f *fleet) refuses(m *machine) {
	f.t.Helper()
	if err := m.put("minority", 1); err == nil {
		f.t.Errorf("%s, cut off, acknowledged a write", m.name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if _, err := m.call(ctx, "GET", "/api/services/app?consistent=true", nil, nil); err == nil {
		f.t.Errorf("%s, cut off, answered a consistent read", m.name)
	}
	if _, err := m.call(ctx, "GET", "/api/services/app", nil, nil); err != nil {
		f.t.Errorf("%s, cut off, does not say what it knows: %v", m.name, err)
	}
}

// steady watches that no node is declared lost and no instance placed anew, until stop.
func (f *fleet) steady() (stop func()) {
	ctx, cancel := context.WithCancel(f.t.Context())
	var wg sync.WaitGroup
	before := f.placed()
	wg.Go(func() {
		for ctx.Err() == nil {
			for _, m := range f.nodes {
				c, err := m.cluster()
				for _, o := range c.Members {
					if err == nil && o.Status == api.NodeDown {
						f.t.Errorf("%s says at %s: %s is down: %s", m.name, time.Now().Format(time.TimeOnly), o.Name, o.StatusReason)
					}
				}
			}
			time.Sleep(200 * time.Millisecond)
		}
	})
	return func() {
		cancel()
		wg.Wait()
		if after := f.placed(); after != before {
			f.t.Errorf("instances were placed anew: %s became %s", before, after)
		}
	}
}

// placed tells where all instances are, and under which generation.
func (f *fleet) placed() (out string) {
	f.t.Helper()
	f.until("a list of instances", patience, func() error {
		list, err := f.leader().instances()
		out = ""
		for _, in := range list {
			out += fmt.Sprintf("%s %.4s/%d; ", in.ID, in.Node, in.Generation)
		}
		return err
	})
	return out
}

// TestLoss: nearly a third of all packets is lost.
func TestLoss(t *testing.T) {
	if *loss == 0 {
		t.Skip("skipped: -chaos.loss=0")
	}
	f := startFleet(t, plain, 6)
	l := f.load(6)
	for _, m := range f.nodes {
		m.filter("iif lo accept", "ip saddr "+f.net+"254 accept", "numgen random mod 100 < 30 drop")
	}
	stop := f.steady()
	time.Sleep(*loss)
	stop()
	f.heal()
	l.end(1)
}

// TestStarvation: twice as many busy loops as processors.
func TestStarvation(t *testing.T) {
	if *starve == 0 {
		t.Skip("skipped: -chaos.starve=0")
	}
	f := startFleet(t, plain, 6)
	l := f.load(6)
	var loops []*exec.Cmd
	for range 4 {
		cmd := exec.Command("sh", "-c", "while :; do :; done")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		loops = append(loops, cmd)
	}
	stop := f.steady()
	time.Sleep(*starve)
	stop()
	for _, cmd := range loops {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	l.end(1)
}
