package logs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/runtime/logs/internal/keeper"
	"go.uber.org/goleak"
)

// helperEnv makes the test binary behave as a program of its own; see helper.
const helperEnv = "TENEMENT_LOGS_TEST_HELPER"

// moreEnv is how far the helper count goes on when its stdin ends.
const moreEnv = "TENEMENT_LOGS_TEST_MORE"

func TestMain(m *testing.M) {
	if h := os.Getenv(helperEnv); h != "" {
		if err := helper(h, os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// helper is what the programs started by tests do.
func helper(name string, args []string) error {
	switch name {
	case "count": // prints numbered lines as fast as it can: FROM TO PADDING; at the end of its stdin up to moreEnv
		from, _ := strconv.Atoi(args[0])
		to, _ := strconv.Atoi(args[1])
		pad := strings.Repeat("x", len(args[2]))
		for i := from; i <= to; i++ { // one write a line, as unbuffered programs do
			if _, err := fmt.Printf("line %d %s\n", i, pad); err != nil {
				return err
			}
		}
		_, err := io.Copy(io.Discard, os.Stdin)
		more, _ := strconv.Atoi(os.Getenv(moreEnv))
		for i := to + 1; i <= more && err == nil; i++ {
			_, err = fmt.Printf("line %d %s\n", i, pad)
		}
		return err
	case "flood": // prints for ever, as fast as it can
		block := []byte(strings.Repeat(strings.Repeat("flood ", 20)+"\n", 500))
		for {
			if _, err := os.Stdout.Write(block); err != nil {
				return err
			}
		}
	case "capture": // is ten: DIR REF, until killed
		ref, err := api.ParseRef(args[1])
		if err != nil {
			return err
		}
		s, err := Open(fast(Config{Dir: args[0]}))
		if err != nil {
			return err
		}
		if err := s.Attach(ref); err != nil {
			return err
		}
		fmt.Println("ready")
		select {}
	}
	return errors.New("no such helper: " + name)
}

// fast lifts the limits.
func fast(c Config) Config {
	c.InstanceRate, c.NodeRate = api.GiB, api.GiB
	c.InstanceBurst, c.NodeBurst = 64*api.MiB, 256*api.MiB
	c.MaxSize = 4 * api.GiB
	return c
}

// program starts the test binary as the named helper.
func program(t testing.TB, name string, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Env = append(os.Environ(), helperEnv+"="+name)
	return cmd
}

func openStore(t testing.TB, cfg Config) *Store {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(testWriter{t}, nil))
	}
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop(t, s)
		endKeepers(t, s)
	})
	return s
}

// endKeepers ends what keeps the pipes of a stopped store.
func endKeepers(t testing.TB, s *Store) {
	t.Helper()
	k, err := keeper.Open(s.cfg.IODir, s.cfg.bootID, s.cfg.Logger)
	if err != nil {
		t.Error(err)
		return
	}
	k.Relieve()
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s", b)
	return len(b), nil
}

func stop(t testing.TB, s *Store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Error(err)
	}
}

func ctx(t testing.TB) context.Context {
	c, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return c
}

// open opens ref's output and closes the writing ends when the test ends.
func open(t testing.TB, s *Store, ref api.Ref) (stdout, stderr *os.File) {
	t.Helper()
	stdout, stderr, err := s.Open(ref)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stdout.Close(); _ = stderr.Close() })
	return stdout, stderr
}

func write(t testing.TB, f *os.File, text string) {
	t.Helper()
	if _, err := io.WriteString(f, text); err != nil {
		t.Fatal(err)
	}
}

// await follows q until it has yielded n entries.
func await(t testing.TB, s *Store, q api.LogQuery, n int) []api.LogEntry {
	t.Helper()
	q.Limit = 10_000
	var list []api.LogEntry
	if n == 0 {
		return list
	}
	for e, err := range s.Follow(ctx(t), q) {
		if err != nil {
			t.Fatal(err)
		}
		if list = append(list, e); len(list) >= n {
			return list
		}
	}
	t.Fatalf("%d of %d entries in time", len(list), n)
	return nil
}

func query(t testing.TB, s *Store, q api.LogQuery) []api.LogEntry {
	t.Helper()
	list, err := s.Query(ctx(t), q)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func messages(list []api.LogEntry) []string {
	out := make([]string, len(list))
	for i, e := range list {
		out[i] = e.Message
	}
	return out
}

// files returns the names in dir, but for directories and what is kept for later use.
func files(t testing.TB, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !e.IsDir() && !strings.HasPrefix(e.Name(), "free.") && !strings.HasPrefix(e.Name(), "keeper.") {
			names = append(names, filepath.Base(e.Name()))
		}
	}
	return names
}

// ready waits for the first line of a started capture helper.
func ready(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("helper said %q, %v", line, err)
	}
}

func goroutines() int { return runtime.NumGoroutine() }
