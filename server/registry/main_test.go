package registry

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const madeText = "made the package"

// fixture is a registry over a program and directories of its own.
type fixture struct {
	*Registry
	cfg Config
	log *buffer
	now time.Time
}

// buffer is a log.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

var start = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

func newKey(t testing.TB) *Key {
	t.Helper()
	private, err := NewKey("tenement cluster test", start)
	if err != nil {
		t.Fatal(err)
	}
	k, err := ParseKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newFixture(t testing.TB, change ...func(*Config)) *fixture {
	t.Helper()
	dir := t.TempDir()
	f := &fixture{log: &buffer{}, now: start}
	key := newKey(t)
	f.cfg = Config{
		Program: filepath.Join(dir, "ten"), Version: "1.2.3", Dir: filepath.Join(dir, "made"), Given: filepath.Join(dir, "given"),
		Key:    func(context.Context) (*Key, error) { return key, nil },
		Logger: slog.New(slog.NewTextHandler(f.log, nil)), Now: func() time.Time { return f.now },
	}
	writeFile(t, f.cfg.Program, strings.Repeat("the program ", 1000))
	for _, c := range change {
		c(&f.cfg)
	}
	f.restart(t)
	return f
}

// restart makes the registry anew, over what is on the disk.
func (f *fixture) restart(t testing.TB) {
	t.Helper()
	var err error
	if f.Registry, err = New(f.cfg); err != nil {
		t.Fatal(err)
	}
}

// made returns how often the program's package was made.
func (f *fixture) made() int { return strings.Count(f.log.String(), madeText) }

// file returns what a file holds, or why it is not there.
func (f *fixture) file(t testing.TB, name string) (content, tag string, err error) {
	t.Helper()
	r, tag, err := f.Open(t.Context(), name)
	if err != nil {
		return "", "", err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b), tag, nil
}

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}
