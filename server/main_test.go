package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/api/client"
	"github.com/tenement-fleet/tenement/runtime/driver"
	"github.com/tenement-fleet/tenement/runtime/fake"
	"github.com/tenement-fleet/tenement/server/config"
)

func TestMain(m *testing.M) {
	if mode := os.Getenv(envMode); mode != "" && os.Getenv(envHandover) != "" {
		os.Exit(actAsSuccessor(mode))
	}
	goleak.VerifyTestMain(m)
}

// envMode tells a successor, which is this test binary again, how to act; envConfig
// where the configuration is, envNotify whom to call once it has reached a mode's point.
const (
	envMode   = "TEN_TEST_SUCCESSOR"
	envDir    = "TEN_TEST_DIR"
	envNotify = "TEN_TEST_NOTIFY"
)

// The ways a successor can act.
const (
	takesOver        = "takes over"
	refusesConfig    = "refuses its configuration"
	diesBeforeReady  = "dies before ready"
	diesWhenReady    = "dies when ready"
	diesAfterGo      = "dies after go"
	hangsAfterGo     = "hangs after go"
	failsAfterGo     = "fails after go"
	otherDataDir     = "has another data directory"
	speaksOtherWords = "speaks other words"
)

func actAsSuccessor(mode string) int {
	switch mode {
	case diesBeforeReady:
		return 3
	case takesOver, refusesConfig, otherDataDir:
		if err := runSuccessor(mode); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	}
	before, err := inherit(os.Getenv)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	switch mode {
	case diesWhenReady:
		_ = before.conn.say(wordReady, "v2")
		return 4
	case speaksOtherWords:
		_ = before.conn.say("hello", "")
	}
	if err := before.takeOver(context.Background(), "v2"); err != nil {
		return 1
	}
	switch mode {
	case diesAfterGo:
		return 5
	case failsAfterGo:
		before.fail(errors.New("no more room in the house\nsecond line"))
		return 1
	}
	if conn, err := net.Dial("unix", os.Getenv(envNotify)); err == nil {
		_ = conn.Close()
	}
	select {} // until it is killed
}

func runSuccessor(mode string) error {
	dir := os.Getenv(envDir)
	m := fake.NewMachine(nil)
	defer m.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if addr := os.Getenv(envNotify); addr != "" { // serve until the test hangs up
		conn, err := net.Dial("unix", addr)
		if err != nil {
			return err
		}
		defer conn.Close() //nolint:errcheck // nothing is said
		go func() {
			_, _ = io.Copy(io.Discard, conn)
			cancel()
		}()
	}
	opts := testOptions(m, dir)
	opts.Version = "v2"
	switch mode {
	case refusesConfig:
		opts.Load = func() (*config.Config, error) { return nil, errors.New("tenement.toml:7: no such thing") }
	case otherDataDir:
		opts.Load = func() (*config.Config, error) {
			cfg, err := testConfig(dir)
			if err == nil {
				cfg.DataDir += "-2"
			}
			return cfg, err
		}
	}
	return Run(ctx, opts)
}

// testOptions makes a server with pretended programs and what tenement.toml says in dir.
func testOptions(m *fake.Machine, dir string) Options {
	return Options{
		Load: func() (*config.Config, error) { return testConfig(dir) },
		Drivers: map[api.Isolation]driver.Driver{
			api.IsolationProcess:   m.Driver(api.IsolationProcess),
			api.IsolationNamespace: m.Driver(api.IsolationNamespace),
		},
		Version: "v1", Logger: slog.New(slog.DiscardHandler),
	}
}

func testConfig(dir string) (*config.Config, error) {
	anyPort := 0
	return config.Load(config.Options{
		File: filepath.Join(dir, "tenement.toml"), Env: []string{"PATH=" + os.Getenv("PATH")},
		Flags: config.Flags{DataDir: dir, Bind: "127.0.0.1", Port: &anyPort},
	})
}

const oneService = "[service.app]\ncommand = \"true\"\n[instances]\napp = [\"one\"]\n"

// testServer is a server running in this process.
type testServer struct {
	t       *testing.T
	dir     string
	addr    string
	machine *fake.Machine
	client  *client.Client
	log     *syncBuffer
	end     context.CancelCauseFunc
	done    chan struct{}
	err     error // of Run, once done is closed
}

// tempDir makes a directory with a name that is short enough for sockets.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "s-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// startServer runs a server in dir until the test ends.
func startServer(t *testing.T, dir string, change ...func(*Options)) *testServer {
	t.Helper()
	s := &testServer{t: t, dir: dir, machine: fake.NewMachine(nil), done: make(chan struct{}), log: &syncBuffer{}}
	t.Cleanup(s.machine.Close)
	if _, err := os.Stat(filepath.Join(dir, "tenement.toml")); err != nil {
		if err := os.WriteFile(filepath.Join(dir, "tenement.toml"), []byte(oneService), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	opts := testOptions(s.machine, dir)
	opts.Logger = slog.New(slog.NewTextHandler(s.log, nil))
	opts.Program, opts.Args = os.Args[0], []string{"-test.run=^$"}
	serving := make(chan net.Addr, 1)
	opts.Serving = func(a net.Addr) { serving <- a }
	for _, f := range change {
		f(&opts)
	}
	var ctx context.Context
	ctx, s.end = context.WithCancelCause(context.Background())
	go func() {
		defer close(s.done)
		s.err = Run(ctx, opts)
	}()
	t.Cleanup(func() { _ = s.stop(context.Canceled) })
	select {
	case addr := <-serving:
		s.addr = addr.String()
	case <-s.done:
		t.Fatalf("run: %v\n%s", s.err, s.log)
	}
	var err error
	s.client, err = client.New(client.Config{Endpoints: []string{"unix://" + filepath.Join(dir, "ten.sock")}, Timeout: time.Minute, Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.client.Close)
	return s
}

func (s *testServer) stop(cause error) error {
	s.end(cause)
	<-s.done
	return s.err
}

// get requests path of host over a connection of its own.
func (s *testServer) get(host, path string) (int, string) {
	s.t.Helper()
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", s.addr)
	}}
	resp, err := (&http.Client{Transport: tr, Timeout: time.Minute}).Get("http://" + host + path)
	if err != nil {
		s.t.Errorf("GET %s%s: %v", host, path, err)
		return 0, ""
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Error(err)
	}
	return resp.StatusCode, string(b)
}

type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
