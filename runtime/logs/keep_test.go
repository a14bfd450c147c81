package logs

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tenement-fleet/tenement/api"
	"golang.org/x/sys/unix"
)

// keepers returns the names under which the keepers of s are on record.
func keepers(t testing.TB, s *Store) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(s.cfg.IODir, "keeper.*"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// A program prints while nobody captures, and ends: the next store has every line once.
func TestEndsWhileNobodyCaptures(t *testing.T) {
	for name, reopen := range map[string]int{"once": 1, "stores that stop at once": 3} {
		t.Run(name, func(t *testing.T) {
			const before, after = 100, 2000 // the latter fit in a pipe
			cfg := fast(Config{Dir: t.TempDir()})
			s := openStore(t, cfg)
			cmd := program(t, "count", "1", fmt.Sprint(before), "")
			stdin, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			cmd.Env = append(cmd.Env, fmt.Sprintf("%s=%d", moreEnv, before+after))
			start(t, s, alice, cmd)
			await(t, s, api.LogQuery{}, before)
			stop(t, s)
			if err := stdin.Close(); err != nil { // now it prints the rest
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Fatal(err)
			}
			for range reopen {
				s = openStore(t, cfg)
				stop(t, s)
			}
			s = openStore(t, cfg)
			for _, f := range []func(api.Ref) error{s.Attach, s.Close} {
				if err := f(alice); err != nil {
					t.Fatal(err)
				}
			}
			for i, e := range await(t, s, api.LogQuery{}, before+after) {
				if want := fmt.Sprintf("line %d ", i+1); !strings.HasPrefix(e.Message, want) {
					t.Fatalf("entry %d is %q", i, e.Message)
				}
			}
			if got := query(t, s, api.LogQuery{Limit: 10_000}); len(got) != before+after {
				t.Errorf("%d lines, want %d", len(got), before+after)
			}
			if got := files(t, s.cfg.IODir); len(got) > 0 {
				t.Errorf("pipes left: %v", got)
			}
			if got := keepers(t, s); len(got) > 0 {
				t.Errorf("keepers left: %v", got)
			}
		})
	}
}

// While somebody prints there is one keeper, whoever captures; at the end there is none.
func TestOneKeeper(t *testing.T) {
	cfg := fast(Config{Dir: t.TempDir()})
	s := openStore(t, cfg)
	if got := keepers(t, s); len(got) != 0 {
		t.Errorf("with nothing to hold there are %v", got)
	}
	stdout, stderr := open(t, s, alice)
	seen := map[string]bool{}
	for range 3 {
		got := keepers(t, s)
		if len(got) != 1 || seen[got[0]] {
			t.Fatalf("keepers %v after %v", got, seen)
		}
		seen[got[0]] = true
		stop(t, s)
		s = openStore(t, cfg)
	}
	if err := s.Attach(alice); err != nil {
		t.Fatal(err)
	}
	_ = stdout.Close()
	_ = stderr.Close()
	if err := s.Close(alice); err != nil {
		t.Fatal(err)
	}
	stop(t, s)
	if got := keepers(t, s); len(got) != 0 {
		t.Errorf("keepers left: %v", got)
	}
}

// A program that has closed one of its outputs is captured all the same.
func TestAttachOneOutput(t *testing.T) {
	cfg := fast(Config{Dir: t.TempDir()})
	s := openStore(t, cfg)
	stdout, stderr := open(t, s, alice)
	_ = stderr.Close()
	if err := unix.Unlink(s.pipePath(sources(alice)[1])); err != nil {
		t.Fatal(err)
	}
	stop(t, s)
	s = openStore(t, cfg)
	if err := s.Attach(alice); err != nil {
		t.Fatal(err)
	}
	write(t, stdout, "still here\n")
	await(t, s, api.LogQuery{Search: "still"}, 1)
}
