package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/term"
)

// app is one run of the command line: its surroundings and its global flags.
type app struct {
	hooks  hooks
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer
	getenv func(string) string
	now    func() time.Time
	tick   func(time.Duration) (<-chan time.Time, func()) // paces what is drawn
	zone   *time.Location
	screen screen

	servers []string
	token   string
	dataDir string
	json    bool
	noColor bool

	waiting atomic.Pointer[progress] // told of what is tried again

	parsed bool // the command line was understood: errors from now on are not about usage
}

// screen is what is known of the terminal, if there is one.
type screen struct {
	in, out, err bool       // stdin, stdout, stderr is a terminal
	width        func() int // columns; 0 when there is no terminal
}

// newApp returns an app on the process's own streams and environment.
func newApp(h hooks) *app {
	a := &app{
		hooks: h, stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
		getenv: os.Getenv, now: time.Now, zone: time.Local,
		tick: func(d time.Duration) (<-chan time.Time, func()) {
			t := time.NewTicker(d)
			return t.C, t.Stop
		},
	}
	a.screen = screen{
		in:  term.IsTerminal(int(os.Stdin.Fd())),
		out: term.IsTerminal(int(os.Stdout.Fd())) && understandsANSI(os.Stdout),
		err: term.IsTerminal(int(os.Stderr.Fd())) && understandsANSI(os.Stderr),
	}
	if os.Getenv("TERM") == "dumb" {
		a.screen.err = false
	}
	fd := int(os.Stdout.Fd())
	if !a.screen.out {
		fd = int(os.Stderr.Fd())
	}
	a.screen.width = func() int {
		w, _, err := term.GetSize(fd)
		if err != nil {
			return 0
		}
		return w
	}
	return a
}

// execute runs one command line and returns the exit code.
func (a *app) execute(ctx context.Context, args []string) int {
	root := newRoot(a)                        //nolint:contextcheck // cobra hands the context to the commands
	root.SetArgs(append([]string{}, args...)) // cobra takes nil for the process's own
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	if signalOf(ctx) != nil && isCanceled(err) {
		return exitInterrupted
	}
	if !a.parsed {
		err = &usageError{cmd: cmd.CommandPath(), err: err}
	}
	a.printError(err)
	return exitCode(err)
}

// colors reports whether stdout may be coloured.
func (a *app) colors() bool {
	return a.screen.out && !a.noColor && a.getenv("NO_COLOR") == "" && a.getenv("TERM") != "dumb"
}

// tableWidth is the width that tables must fit; 0 when they go to no terminal.
func (a *app) tableWidth() int {
	if !a.screen.out {
		return 0
	}
	return a.screen.width()
}

// printf writes to stdout. An error there (a full disk, a closed pipe) ends the command.
func (a *app) printf(format string, args ...any) error {
	if _, err := fmt.Fprintf(a.stdout, format, args...); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}

// note writes a line for people to stderr, where it can't get into what scripts read.
func (a *app) note(format string, args ...any) {
	_, _ = fmt.Fprintf(a.stderr, format+"\n", args...) // nowhere left to report to
}

// printJSON writes v as indented JSON.
func (a *app) printJSON(v any) error {
	return a.writeJSON(v, "  ")
}

// printJSONLine writes v as one line of JSON.
func (a *app) printJSONLine(v any) error {
	return a.writeJSON(v, "")
}

func (a *app) writeJSON(v any, indent string) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // it goes to people and programs, not into a page
	enc.SetIndent("", indent)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("encode output: %w", err)
	}
	return a.printf("%s", cleanJSON(b.Bytes()))
}

// printList writes a list as one JSON array, never null.
func printList[T any](a *app, list []T) error {
	if list == nil {
		list = []T{}
	}
	return a.printJSON(list)
}
