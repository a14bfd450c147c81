package main

import (
	"bytes"
	"context"
	"flag"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tenement-fleet/tenement/api"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is what a command under test runs in.
type world struct {
	server  *fakeServer
	url     string
	dir     string // data directory
	env     map[string]string
	width   int // of the terminal; 0: stdout and stderr are files
	colored bool
	stdin   string
	tty     bool // stdin and stderr are a terminal
	hooks   hooks
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{server: newFakeServer(), dir: t.TempDir(), env: map[string]string{}}
	w.url = w.server.start(t)
	w.env["TENEMENT_SERVER"], w.env["TENEMENT_TOKEN"], w.env["TENEMENT_DATA_DIR"] = w.url, goodToken, w.dir
	w.hooks = hooks{
		Sample: func(name, command string) []byte {
			return []byte("[service." + name + "]\ncommand = " + strconv.Quote(command) + "\n")
		},
		Capabilities: func(context.Context) []api.Capability {
			return []api.Capability{needed(found("process isolation", "works"))}
		},
		Config: func(o serveOptions) ([]byte, any, error) {
			port := 8080
			if o.Port != nil {
				port = *o.Port
			}
			return []byte("port = " + strconv.Itoa(port) + "\n"), map[string]int{"port": port}, nil
		},
	}
	w.hooks.offline(w.dir)
	return w
}

// app returns an app in this world that writes to the buffers.
func (w *world) app(stdout, stderr *bytes.Buffer) *app {
	env := w.env
	return &app{
		hooks: w.hooks, stdin: strings.NewReader(w.stdin), stdout: stdout, stderr: stderr,
		getenv: func(k string) string {
			if k == "NO_COLOR" && !w.colored {
				return "1"
			}
			return env[k]
		},
		now: func() time.Time { return noon }, zone: time.UTC,
		// Nothing is drawn over and over in a transcript, and nothing waits.
		tick: func(d time.Duration) (<-chan time.Time, func()) {
			c := make(chan time.Time, 1)
			if d == redrawPause {
				c <- noon
			}
			return c, func() {}
		},
		screen: screen{in: w.tty, out: w.width > 0, err: w.tty, width: func() int { return w.width }},
	}
}

// run runs one command line and returns what it printed and its exit code.
func (w *world) run(ctx context.Context, args ...string) (stdout, stderr string, code int) {
	var o, e bytes.Buffer
	code = w.app(&o, &e).execute(ctx, args)
	return o.String(), e.String(), code
}

// varying is what differs from run to run, and what it is replaced by.
var varying = []struct {
	pattern *regexp.Regexp
	by      string
}{
	{regexp.MustCompile(`ten_[0-9a-f]{12}_[A-Za-z0-9_-]{43}`), "ten_ID_SECRET"},
	{regexp.MustCompile(`http://127\.0\.0\.1:\d{5}`), "SERVER"},
	{regexp.MustCompile(`127\.0\.0\.1:\d{5}: connect: .*refused`), "ADDRESS: connection refused"},
	{regexp.MustCompile(`\(go1.*/.*\)`), "(GO, SYSTEM)"},
}

func (w *world) steady(s string) string {
	s = strings.ReplaceAll(s, w.dir, "DIR")
	for _, v := range varying {
		s = v.pattern.ReplaceAllString(s, v.by)
	}
	return s
}

// TestTranscripts runs the command lines of testdata/*.txt and compares what is printed.
// A line that begins with "$ ten " is a command, with "@ " changes the world: width N,
// color, env NAME=VALUE, stdin TEXT, server gone. Output to stderr is marked by "! ".
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no transcripts", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := newWorld(t).replay(t, string(want))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if got != string(want) {
				t.Errorf("output differs (go test ./cmd/ten -update accepts it):\n%s", difference(string(want), got))
			}
		})
	}
}

func (w *world) replay(t *testing.T, script string) string {
	t.Helper()
	var out strings.Builder
	for line := range strings.Lines(script) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "@ "):
			w.change(t, strings.TrimPrefix(line, "@ "))
		case strings.HasPrefix(line, "# "):
		case strings.HasPrefix(line, "$ ten"):
			out.WriteString(line + "\n")
			args, err := api.SplitWords(strings.TrimPrefix(line, "$ ten"))
			if err != nil {
				t.Fatal(err)
			}
			for i := range args {
				args[i] = strings.ReplaceAll(args[i], "DIR", w.dir)
			}
			stdout, stderr, code := w.run(t.Context(), args...)
			out.WriteString(strings.ReplaceAll(w.steady(stdout), "\x1b", "␛"))
			for l := range strings.Lines(w.steady(stderr)) {
				out.WriteString("! " + l)
			}
			if code != 0 {
				out.WriteString("[exit " + strconv.Itoa(code) + "]\n")
			}
			out.WriteString("\n")
			if w.width > 0 && !strings.Contains(line, " logs") {
				w.checkWidth(t, line, stdout)
			}
			continue
		default:
			continue // the output recorded earlier
		}
		out.WriteString(line + "\n")
	}
	return out.String()
}

// checkWidth fails the test when a line would wrap.
func (w *world) checkWidth(t *testing.T, command, stdout string) {
	t.Helper()
	for l := range strings.Lines(regexp.MustCompile("\x1b\\[[0-9;]*[A-Za-z]").ReplaceAllString(stdout, "")) {
		if n := cells(strings.TrimSuffix(l, "\n")); n > w.width {
			t.Errorf("%s: a line of %d cells on a terminal of %d: %q", command, n, w.width, l)
		}
	}
}

func (w *world) change(t *testing.T, what string) {
	t.Helper()
	verb, rest, _ := strings.Cut(what, " ")
	switch verb {
	case "width":
		n, err := strconv.Atoi(rest)
		if err != nil {
			t.Fatal(err)
		}
		w.width = n
	case "color":
		w.colored = rest == "on"
	case "env":
		name, value, _ := strings.Cut(rest, "=")
		w.env[name] = strings.NewReplacer("SERVER", w.url, "DIR", w.dir).Replace(value)
	case "stdin":
		w.stdin = strings.ReplaceAll(rest, "\\n", "\n")
	case "tty":
		w.tty = rest == "on"
	case "cluster":
		w.server.grow(rest)
	case "server":
		s := httptest.NewServer(nil)
		s.Close()
		w.env["TENEMENT_SERVER"] = s.URL
	default:
		t.Fatalf("unknown directive %q", what)
	}
}

// difference shows the first lines that are not alike.
func difference(want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range b {
		if i >= len(a) || a[i] != b[i] {
			end := min(i+12, len(b))
			return "line " + strconv.Itoa(i+1) + ", got:\n" + strings.Join(b[i:end], "\n") +
				"\nwant:\n" + strings.Join(a[min(i, len(a)):min(i+12, len(a))], "\n")
		}
	}
	return "got ends early:\n" + strings.Join(a[len(b):], "\n")
}
