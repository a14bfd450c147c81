package e2e

import (
	"bufio"
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// follow runs `ten logs -f` and yields its lines until the test ends.
func (s *ten) follow(args ...string) <-chan string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	cmd := exec.CommandContext(ctx, tenBinary, append([]string{"--data-dir", s.dataDir, "logs", "-f"}, args...)...)
	cmd.Env = cleanEnv()
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	lines := make(chan string, 1000)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(lines)
		for sc := bufio.NewScanner(out); sc.Scan(); {
			select {
			case lines <- sc.Text():
			case <-ctx.Done():
				return
			}
		}
	})
	s.t.Cleanup(func() { cancel(); wg.Wait(); _ = cmd.Wait() })
	return lines
}

// await returns when a line with text in it has come.
func await(t *testing.T, lines <-chan string, text string) {
	t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case line, ok := <-lines:
			if !ok {
				t.Fatalf("the log ended before %q", text)
			}
			if strings.Contains(line, text) {
				return
			}
		case <-timeout:
			t.Fatalf("no line with %q", text)
		}
	}
}

// say lets a program print a line and returns how long it took to come out of follow.
func (s *ten) say(host, line string, lines <-chan string) time.Duration {
	s.t.Helper()
	began := time.Now()
	s.want(host, "/say?line="+line, "")
	await(s.t, lines, line)
	return time.Since(began)
}

// TestFollow measures from before the request that makes a program print to the line's
// arrival in `ten logs -f`. The promise is a quarter of a second; what is asserted leaves
// room for a machine that does other things.
func TestFollow(t *testing.T) {
	t.Parallel()
	s := startTen(t, appConfig("", ""))
	s.run("spawn", "app:one")
	lines := s.follow("app:one")
	for n := 0; ; n++ { // the first that comes says that it follows
		s.want("one.app.localhost", fmt.Sprintf("/say?line=hello-%d", n), "")
		select {
		case <-lines:
		case <-time.After(100 * time.Millisecond):
			continue
		}
		break
	}
	var took []time.Duration
	for i := range 40 {
		took = append(took, s.say("one.app.localhost", fmt.Sprintf("line-%d-end", i), lines))
	}
	slices.Sort(took)
	t.Logf("from the request to the line: median %s, max %s", took[len(took)/2], took[len(took)-1])
	if median := took[len(took)/2]; median > 2*time.Second {
		t.Errorf("median %s", median)
	}
}

// TestLoudTenant: a program that prints as fast as it can takes neither requests nor log
// lines from its neighbours.
func TestLoudTenant(t *testing.T) {
	t.Parallel()
	s := startTen(t, appConfig("", ""))
	s.run("spawn", "app:loud")
	s.run("spawn", "app:quiet")
	lines := s.follow("app:quiet")
	s.want("loud.app.localhost", "/flood", "")
	defer s.want("loud.app.localhost", "/flood?stop=1", "")
	for n := 0; ; n++ {
		s.want("quiet.app.localhost", fmt.Sprintf("/say?line=hello-%d", n), "")
		select {
		case <-lines:
		case <-time.After(100 * time.Millisecond):
			continue
		}
		break
	}
	var requests, seen []time.Duration
	for i := range 50 {
		began := time.Now()
		s.want("quiet.app.localhost", "/", "quiet")
		requests = append(requests, time.Since(began))
		seen = append(seen, s.say("quiet.app.localhost", fmt.Sprintf("line-%d-end", i), lines))
	}
	slices.Sort(requests)
	slices.Sort(seen)
	t.Logf("beside a flood: requests median %s, max %s; log lines median %s, max %s",
		requests[25], requests[49], seen[25], seen[49])
	if requests[25] > time.Second || seen[25] > 5*time.Second {
		t.Errorf("the quiet one suffers")
	}
	var entries []api.LogEntry
	if _, err := s.local(t.Context(), "GET", "/api/logs?process=app&id=loud&limit=100", &entries); err != nil || len(entries) == 0 {
		t.Errorf("the loud one's log: %d entries, %v", len(entries), err)
	}
}
