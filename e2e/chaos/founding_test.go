package chaos

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestBootstraps: three servers start together, one of them is sometimes killed on the
// way: there is exactly one cluster.
func TestBootstraps(t *testing.T) {
	f := newFleet(t, plain)
	secret := f.mint(f.nodes[0])
	for _, m := range f.nodes {
		for _, o := range f.nodes {
			m.flags = append(m.flags, "--join", o.ip)
		}
		m.flags = append(m.flags, "--secret-file", secret, "--bootstrap-expect", "3")
	}
	var slowest time.Duration
	for n := range *bootstraps {
		for _, m := range f.nodes {
			m.die()
			if err := os.RemoveAll(m.dataDir); err != nil {
				t.Fatal(err)
			}
		}
		f.token = ""
		begin := time.Now()
		for _, i := range f.rand.Perm(3) {
			f.nodes[i].launch()
			time.Sleep(f.between(0, 300*time.Millisecond))
		}
		if n%2 == 1 {
			time.Sleep(f.between(0, 1500*time.Millisecond))
			m := f.pick()
			m.kill()
			time.Sleep(f.between(0, 500*time.Millisecond))
			m.launch()
		}
		for _, m := range f.nodes {
			if err := m.serves(patience); err != nil {
				t.Fatalf("%d: %v", n, err)
			}
		}
		slowest = max(slowest, time.Since(begin))
		f.makeToken()
		f.oneCluster(n)
	}
	t.Logf("%d times exactly one cluster; the slowest took %s", *bootstraps, slowest.Round(time.Millisecond))
}

func (f *fleet) oneCluster(n int) {
	f.t.Helper()
	f.until("one cluster of three", patience, func() error {
		ids := map[string]bool{}
		for _, m := range f.nodes {
			c, err := m.cluster()
			if err != nil {
				return err
			}
			ids[c.ID] = true
			if len(c.Members) != 3 {
				err = fmt.Errorf("%d: %s: %d members", n, m.name, len(c.Members))
			}
			if len(ids) > 1 {
				f.t.Fatalf("%d: TWO CLUSTERS: %v", n, ids)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// mint returns a file with the secret of a cluster that is no more.
func (f *fleet) mint(m *machine) string {
	f.t.Helper()
	m.start()
	b, err := os.ReadFile(filepath.Join(m.dataDir, ".ten", "secret"))
	if err != nil {
		f.t.Fatal(err)
	}
	m.die()
	path := filepath.Join(f.dir, "secret")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		f.t.Fatal(err)
	}
	return path
}

// TestWrongCluster: a server with another secret, or of another cluster with the same
// one, is refused and told why.
func TestWrongCluster(t *testing.T) {
	f := newFleet(t, plain)
	one, two, three := f.nodes[0], f.nodes[1], f.nodes[2]
	secret := f.mint(three)
	if err := os.RemoveAll(three.dataDir); err != nil {
		t.Fatal(err)
	}
	one.start()
	f.makeToken()
	flags := two.flags

	two.flags = append(flags[:len(flags):len(flags)], "--join", one.ip, "--secret-file", secret)
	f.refused(two, "another secret", "another cluster's or another secret's")

	if err := os.RemoveAll(two.dataDir); err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(one.dataDir, ".ten", "secret")
	two.flags = append(flags[:len(flags):len(flags)], "--secret-file", own)
	two.start() // a cluster of its own
	two.end(syscall.SIGTERM)
	two.flags = append(two.flags, "--join", one.ip)
	f.refused(two, "another cluster", "belongs to cluster")

	if c, err := one.cluster(); err != nil || len(c.Members) != 1 {
		t.Errorf("the cluster has %d members: %v", len(c.Members), err)
	}
}

// refused starts a server that must not serve, and must say why. It may wait for better
// times.
func (f *fleet) refused(m *machine, what, why string) {
	f.t.Helper()
	m.launch()
	if m.serves(3*time.Second) == nil {
		f.t.Errorf("%s: it is not refused", what)
	}
	m.die()
	last := m.tail(600)
	if !strings.Contains(last, why) {
		f.t.Errorf("%s: it does not say why: %s", what, last)
	}
	f.t.Logf("%s: %s", what, lastLine(last))
}
