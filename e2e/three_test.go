package e2e

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/tenement-fleet/tenement/api"
)

// elsewhere bounds how long the instances of a dead node are not served; the machine that
// runs the tests may be busy.
const elsewhere = 20 * time.Second

// fleetConfig is appConfig without isolation, so that the processes are the programs.
func fleetConfig() string { return appConfig(`isolation = "process"`, "") }

// TestThreeServers is what the README shows: three servers, an instance on each, requests
// through any, and what becomes of it when one dies, loses only ten, or all do.
func TestThreeServers(t *testing.T) {
	t.Parallel()
	f := startFleet(t, 3, fleetConfig())
	one, two := f.nodes[0], f.nodes[1]
	refs := []string{"app:a", "app:b", "app:c"}
	for i, ref := range refs {
		f.nodes[i].put("/api/instances/"+ref, api.Instance{Desired: api.DesiredRunning})
	}
	owner, pids := f.owners(two, refs...)
	at := map[*ten]string{}
	for ref, s := range owner {
		at[s] = ref
	}
	if len(at) != 3 {
		t.Fatalf("not one instance on each node: %v", at)
	}
	for _, s := range f.nodes {
		if got := len(s.cluster().Members); got != 3 {
			t.Fatalf("%s knows %d members", s.host, got)
		}
		for _, ref := range refs {
			if pid, err := s.answers(ref); err != nil || pid != pids[ref] {
				t.Fatalf("pid %d, want %d: %v", pid, pids[ref], err)
			}
		}
		s.checkStreams(t, at[f.nodes[2]])
	}
	f.killThird(at)
	f.loseTen(two, at[two], pids[at[two]])
	f.killAll(one, refs)
}

// checkStreams reads server-sent events and talks over a WebSocket through the server.
func (s *ten) checkStreams(t *testing.T, ref string) {
	t.Helper()
	service, id, _ := strings.Cut(ref, ":")
	host := id + "." + service + ".localhost"
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+host+"/stream?n=3&d=300ms", nil)
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	resp, err := s.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var first time.Duration
	events := 0
	for sc := bufio.NewScanner(resp.Body); sc.Scan(); {
		if strings.HasPrefix(sc.Text(), "data: ") {
			if events++; events == 1 {
				first = time.Since(begin)
			}
		}
	}
	if events != 3 || time.Since(begin)-first < 400*time.Millisecond {
		t.Errorf("through %s: %d events, the first after %s of %s", s.host, events, first, time.Since(begin))
	}

	conn, _, err := websocket.Dial(ctx, "ws://"+host+"/ws", &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", s.addr())
		}}},
	})
	if err != nil {
		t.Fatalf("WebSocket through %s: %v", s.host, err)
	}
	defer conn.CloseNow() //nolint:errcheck // best effort
	for _, text := range []string{"one", "two"} {
		if err := conn.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if _, got, err := conn.Read(ctx); err != nil || string(got) != text {
			t.Fatalf("WebSocket through %s: %q, %v", s.host, got, err)
		}
	}
	_ = conn.Close(websocket.StatusNormalClosure, "")
}

// killThird: the machine of the third server dies; what it ran is answered for by the
// others, and when it is back it is one of them again.
func (f *fleet) killThird(at map[*ten]string) {
	f.t.Helper()
	one, two, three := f.nodes[0], f.nodes[1], f.nodes[2]
	three.die()
	for _, s := range []*ten{one, two} {
		took := until(f.t, elsewhere, func() error { _, err := s.answers(at[three]); return err })
		f.t.Logf("%s of the dead node answers through %s after %s", at[three], s.host, took.Round(time.Millisecond))
	}
	three.start()
	owner, _ := f.owners(three, at[three])
	if owner[at[three]] == three {
		f.t.Errorf("%s is on the node that was dead", at[three])
	}
	if _, err := three.answers(at[three]); err != nil {
		f.t.Error(err)
	}
}

// loseTen: only ten dies; its program is replaced elsewhere, and stopped once ten is back.
func (f *fleet) loseTen(s *ten, ref string, pid int) {
	f.t.Helper()
	s.kill()
	took := until(f.t, elsewhere, func() error {
		now, err := f.nodes[0].answers(ref)
		if err == nil && now == pid {
			err = fmt.Errorf("%s still has pid %d", ref, pid)
		}
		return err
	})
	f.t.Logf("%s of the node without ten answers after %s", ref, took.Round(time.Millisecond))
	s.start()
	waitGone(f.t, pid)
	if now, err := s.answers(ref); err != nil || now == pid {
		f.t.Errorf("pid %d: %v", now, err)
	}
}

// killAll: all ten die at once and come back; everything is there, with the same pids.
func (f *fleet) killAll(by *ten, refs []string) {
	f.t.Helper()
	_, pids := f.owners(by, refs...)
	cluster := by.cluster().ID
	f.each(f.nodes, (*ten).kill)
	f.each(f.nodes, (*ten).start)
	for _, s := range f.nodes {
		if got := s.cluster(); got.ID != cluster || len(got.Members) != 3 {
			f.t.Errorf("%s is in cluster %s with %d members, want %s with 3", s.host, got.ID, len(got.Members), cluster)
		}
		for _, ref := range refs {
			until(f.t, elsewhere, func() error {
				pid, err := s.answers(ref)
				if err == nil && pid != pids[ref] {
					f.t.Fatalf("%s was restarted: pid %d became %d", ref, pids[ref], pid)
				}
				return err
			})
		}
	}
}

// TestBootstrapExpect: three servers that start at once are one cluster, and it lives on
// without the one that led it.
func TestBootstrapExpect(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3, fleetConfig())
	other := newFleet(t, 1, "").nodes[0]
	other.start() // a cluster of its own, whose secret they get
	secret := filepath.Join(other.dataDir, ".ten", "secret")
	for _, s := range f.nodes {
		for _, all := range f.nodes {
			s.flags = append(s.flags, "--join", all.host)
		}
		s.flags = append(s.flags, "--secret-file", secret, "--bootstrap-expect", "3")
	}
	f.each(f.nodes, (*ten).start)
	for _, s := range f.nodes[1:] {
		if a, b := f.nodes[0].cluster().ID, s.cluster().ID; a != b {
			t.Fatalf("two clusters: %s and %s", a, b)
		}
	}
	f.nodes[1].put("/api/instances/app:a", api.Instance{Desired: api.DesiredRunning})
	f.nodes[2].put("/api/instances/app:b", api.Instance{Desired: api.DesiredRunning})
	f.nodes[2].put("/api/instances/app:c", api.Instance{Desired: api.DesiredRunning})
	f.owners(f.nodes[0], "app:a", "app:b", "app:c")
	f.waitVoters(3)
	f.killLeader("app:a", "app:b", "app:c")
}

// waitVoters waits until so many nodes have a vote.
func (f *fleet) waitVoters(n int) {
	f.t.Helper()
	until(f.t, patience, func() error {
		voters := 0
		for _, m := range f.nodes[0].cluster().Members {
			if m.Role == api.MemberVoter || m.Role == api.MemberLeader {
				voters++
			}
		}
		if voters != n {
			return fmt.Errorf("%d voters, want %d", voters, n)
		}
		return nil
	})
}

// killLeader: the leader's machine dies; the others take writes and serve everything.
func (f *fleet) killLeader(refs ...string) {
	f.t.Helper()
	leader, rest := f.leader()
	leader.die()
	begin := time.Now()
	until(f.t, elsewhere, func() error {
		_, err := rest[0].send(f.t.Context(), "PUT", "/api/instances/app:later", api.Instance{Desired: api.DesiredRunning}, nil)
		return err
	})
	f.t.Logf("a write is accepted %s after the leader's death", time.Since(begin).Round(time.Millisecond))
	for _, ref := range append(refs, "app:later") {
		for _, s := range rest {
			until(f.t, elsewhere, func() error { _, err := s.answers(ref); return err })
		}
	}
	f.t.Logf("all instances answer %s after it", time.Since(begin).Round(time.Millisecond))
	leader.start()
	for _, ref := range append(refs, "app:later") {
		until(f.t, elsewhere, func() error { _, err := leader.answers(ref); return err })
	}
}

// leader returns the server that leads, and the others.
func (f *fleet) leader() (leader *ten, rest []*ten) {
	f.t.Helper()
	until(f.t, patience, func() error {
		leader, rest = nil, nil
		for _, s := range f.nodes {
			if c := s.cluster(); c.Leader == c.Node {
				leader = s
			} else {
				rest = append(rest, s)
			}
		}
		if leader == nil || len(rest) != len(f.nodes)-1 {
			return fmt.Errorf("no leader")
		}
		return nil
	})
	return leader, rest
}

// TestJoinToken: a server without the secret joins with a token that works once.
func TestJoinToken(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 3, fleetConfig())
	one, two, three := f.nodes[0], f.nodes[1], f.nodes[2]
	one.start()
	var token api.CreatedJoinToken
	if _, err := one.send(t.Context(), "POST", "/api/join-tokens", api.JoinTokenRequest{MaxUses: 1}, &token); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token.Text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	two.flags = append(two.flags, "--token-file", file)
	three.flags = append(three.flags, "--token-file", file)
	two.start()
	two.put("/api/instances/app:a", api.Instance{Desired: api.DesiredRunning})
	f.owners(two, "app:a")
	if _, err := two.answers("app:a"); err != nil {
		t.Error(err)
	}
	out, err := three.command().CombinedOutput()
	if err == nil || !strings.Contains(string(out), "token") {
		t.Errorf("a token for one use was used twice: %v\n%s", err, out)
	}
	two.kill()
	two.start() // the token is used up, and not needed any more
	if _, err := two.answers("app:a"); err != nil {
		t.Error(err)
	}
}

// TestOtherCluster: a server that has a cluster of its own does not serve it as if nobody
// had told it to join another one.
func TestOtherCluster(t *testing.T) {
	t.Parallel()
	f := newFleet(t, 2, "")
	one, two := f.nodes[0], f.nodes[1]
	one.start()
	two.flags = append(two.flags, "--secret-file", filepath.Join(one.dataDir, ".ten", "secret"))
	two.start()
	two.interrupt()
	two.flags = append(two.flags, "--join", one.host)
	out, err := two.command().CombinedOutput()
	if err == nil || !strings.Contains(string(out), "this server belongs to cluster") {
		t.Errorf("it serves: %v\n%s", err, out)
	}
}
