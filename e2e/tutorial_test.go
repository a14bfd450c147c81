package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestTutorial types docs/tutorial.md as it stands, at two terminals, in a home that is
// empty and a network of its own, so that the page's ports are free. It writes the files
// that the page shows, and compares what comes out with what the page says. Two things
// are not as on a person's machine: git is told, in its own configuration, that the
// project's address is a copy of this directory, and go keeps the caches that it has.
func TestTutorial(t *testing.T) {
	needTerraform(t)
	for _, tool := range []string{"bash", "curl", "git", "make", "setsid"} {
		need(t, tool)
	}
	t.Parallel()
	text, err := os.ReadFile("../docs/tutorial.md")
	if err != nil {
		t.Fatal(err)
	}
	steps, err := tutorialSteps(string(text))
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "t-") // sockets have short names
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	home, start := filepath.Join(dir, "home"), filepath.Join(dir, "start")
	for _, d := range []string{home, start} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	publish(t, filepath.Join(dir, "published"), home)
	r := &reader{t: t, terminals: openTerminals(t, start, tutorialEnv(t, home), 2), where: start}
	for _, s := range steps {
		r.follow(s)
	}
	t.Logf("without typing and reading it takes %s, of which `make build` %s", r.all.Round(time.Millisecond), r.build.Round(time.Millisecond))
	if left, err := os.ReadDir(start); err != nil || slices.ContainsFunc(left, os.DirEntry.IsDir) {
		t.Errorf("the page leaves behind %v, %v", left, err)
	}
}

// reader does what the page says.
type reader struct {
	t          *testing.T
	terminals  []*terminal
	where      string // the directory of the last command's shell
	all, build time.Duration
}

func (r *reader) follow(s step) {
	r.t.Helper()
	if s.file != "" {
		if err := os.WriteFile(filepath.Join(r.where, s.file), []byte(s.text), 0o600); err != nil {
			r.t.Fatal(err)
		}
		return
	}
	term, begin := r.terminals[s.terminal-1], time.Now()
	var out string
	switch {
	case s.text == interrupt:
		term.enter(r.t, interrupt)
		out, _, _ = term.prompted(r.t)
	case s.stays():
		term.enter(r.t, s.text+"\n")
		out = term.await(r.t, func(out string) bool { return s.prints.MatchString(out) || prompted.MatchString(out) })
	default:
		var status int
		out, status, r.where = term.run(r.t, s.text)
		if status != 0 {
			r.t.Fatalf("line %d: %s: exit %d\n%s", s.line, s.text, status, out)
		}
	}
	elapsed := time.Since(begin)
	r.all += elapsed
	if s.text == "make build" {
		r.build = elapsed
	}
	r.t.Logf("%7s  %q", elapsed.Round(time.Millisecond), s.text)
	if s.prints != nil && !s.prints.MatchString(out) {
		r.t.Fatalf("line %d: %s: the page shows\n%s\nbut what comes out is\n%s", s.line, s.text, s.shows, out)
	}
}

// step is one thing that the page tells to do: to type text at a terminal, or to write it
// to a file.
type step struct {
	line     int
	terminal int // from 1
	file     string
	text     string
	shows    string         // what comes out, as the page has it
	prints   *regexp.Regexp // what comes out; nil: whatever does
}

// stays reports whether it is a command that does not return.
func (s step) stays() bool { return strings.Contains(s.text, "ten serve ") }

const interrupt = "\x03"

var (
	atTerminal = regexp.MustCompile(`^<!-- terminal ([12])(: Ctrl-C)? -->$`)
	fileTitle  = regexp.MustCompile(`^# ([a-z0-9._-]+)$`)
)

// tutorialSteps reads the page. A comment before a block of commands names the terminal,
// and may have Ctrl-C pressed there first; a block of HCL begins with the file's name.
func tutorialSteps(page string) (steps []step, err error) {
	at := 0    // the terminal
	kind := "" // of the block that the line is in
	for i, line := range strings.Split(page, "\n") {
		m := atTerminal.FindStringSubmatch(line)
		var last *step
		if len(steps) > 0 {
			last = &steps[len(steps)-1]
		}
		switch {
		case m != nil:
			at = int(m[1][0] - '0')
			if m[2] != "" {
				steps = append(steps, step{line: i + 1, terminal: at, text: interrupt})
			}
		case line == "```":
			kind, at = "", 0
		case strings.HasPrefix(line, "```"):
			kind = line[3:]
			if kind == "hcl" {
				steps = append(steps, step{line: i + 2})
			} else if kind != "console" || at == 0 {
				return nil, fmt.Errorf("line %d: a block of %q, terminal %d", i+1, kind, at)
			}
		case kind == "hcl":
			if title := fileTitle.FindStringSubmatch(line); last.file == "" && title != nil {
				last.file = title[1]
			}
			last.text += line + "\n"
		case kind == "console" && strings.HasPrefix(line, "$ "):
			steps = append(steps, step{line: i + 1, terminal: at, text: line[2:]})
		case kind == "console":
			last.shows += line + "\n"
		}
	}
	for i := range steps {
		if s := &steps[i]; s.shows != "" {
			s.prints = pattern(s)
		} else if s.terminal == 0 && s.file == "" {
			return nil, fmt.Errorf("line %d: a block of HCL begins with `# FILE`", s.line)
		}
	}
	return steps, nil
}

// pattern matches what the page shows, where … stands for a part of a line, and alone on
// a line for any number of them.
func pattern(s *step) *regexp.Regexp {
	b := &strings.Builder{}
	b.WriteString(`\A`)
	for line := range strings.Lines(s.shows) {
		if line == "…\n" {
			b.WriteString(`(?:[^\n]*\n)*?`)
			continue
		}
		for i, part := range strings.Split(strings.TrimSuffix(line, "\n"), "…") {
			if i > 0 {
				b.WriteString(`[^\n]*?`)
			}
			b.WriteString(regexp.QuoteMeta(part))
		}
		b.WriteString(`\n`)
	}
	if !s.stays() {
		b.WriteString(`\z`)
	}
	return regexp.MustCompile(b.String())
}

// publish makes a repository of this directory, and has git in that home take it for the
// project's.
func publish(t *testing.T, repository, home string) {
	t.Helper()
	out, err := exec.Command("git", "-C", "..", "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		t.Skipf("skipped: this is no clone: %v", err)
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		from, to := filepath.Join("..", name), filepath.Join(repository, name)
		b, err := os.ReadFile(from)
		if os.IsNotExist(err) {
			continue // removed, and not committed yet
		}
		if err == nil {
			err = os.MkdirAll(filepath.Dir(to), 0o700)
		}
		if err == nil {
			err = os.WriteFile(to, b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	const config = "[user]\n\tname = Test\n\temail = test@example.com\n[init]\n\tdefaultBranch = main\n" +
		"[url \"file://%s\"]\n\tinsteadOf = https://github.com/tenement-fleet/tenement\n"
	if err := os.WriteFile(filepath.Join(home, ".gitconfig"), fmt.Appendf(nil, config, repository), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"init", "-q"}, {"add", "--all"}, {"commit", "-q", "-m", "All of it"}} {
		cmd := exec.Command("git", args...)
		cmd.Dir, cmd.Env = repository, []string{"HOME=" + home, "PATH=" + os.Getenv("PATH")}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %s: %v\n%s", args[0], err, out)
		}
	}
}

// tutorialEnv is what a shell of somebody finds who has just logged in, and what go needs
// to work as it does here.
func tutorialEnv(t *testing.T, home string) []string {
	t.Helper()
	env := []string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "TERM=xterm-256color", "LANG=C.UTF-8"}
	out, err := exec.Command("go", "env", "-json", "GOCACHE", "GOMODCACHE", "GOENV", "GOFLAGS", "GOPROXY", "GOSUMDB", "GOTOOLCHAIN").Output()
	var vars map[string]string
	if err == nil {
		err = json.Unmarshal(out, &vars)
	}
	if err != nil {
		t.Fatalf("ask go for its caches: %v", err)
	}
	for name, value := range vars {
		env = append(env, name+"="+value)
	}
	return env
}
