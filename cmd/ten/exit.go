package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/api/client"
)

// The exit codes; see `ten help exit-codes`.
const (
	exitOK          = 0
	exitError       = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitTimeout     = 4
	exitDenied      = 5
	exitUnreachable = 6
	exitConflict    = 7
	exitFailed      = 8
	exitInterrupted = 130
)

const exitCodesHelp = `The exit code of ten tells what came of the command:

    0  it worked
    1  it did not, for a reason that has no code of its own
    2  wrong usage, or input that breaks a rule, the configuration included
    3  no such service, instance, fleet, node or token
    4  a wait ran out: nothing is known about how it ends
    5  no token, a wrong one, or one that may not do this
    6  no server could be reached, or the server is not available now
    7  the state of things forbids it: a limit, a revision that is not current
    8  an instance could not be started; its logs say why
  130  interrupted (Ctrl-C)

'ten health' also exits with 1 when something is not well, 'ten doctor' when
'ten serve' would not work.`

// usageError is an error about the command line itself.
type usageError struct {
	cmd string // "ten ps"
	err error
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// inputError is an error about what was read, not about the command line.
type inputError struct{ err error }

func (e *inputError) Error() string { return e.err.Error() }
func (e *inputError) Unwrap() error { return e.err }

// hintError carries what to do about an error.
type hintError struct {
	err  error
	hint string
}

func (e *hintError) Error() string { return e.err.Error() }
func (e *hintError) Unwrap() error { return e.err }

// toldError is an error that the output tells already; it only decides the exit code.
type toldError struct{ err error }

func (e *toldError) Error() string { return e.err.Error() }
func (e *toldError) Unwrap() error { return e.err }

var errUnwell = &toldError{errors.New("something is not well")}

func isCanceled(err error) bool { return errors.Is(err, context.Canceled) }

// exitCode maps an error to the exit code.
func exitCode(err error) int {
	if _, ok := errors.AsType[*usageError](err); ok {
		return exitUsage
	}
	if _, ok := errors.AsType[*inputError](err); ok {
		return exitUsage
	}
	if _, ok := errors.AsType[*client.UnreachableError](err); ok {
		return exitUnreachable
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return exitTimeout
	}
	switch api.CodeOf(err) {
	case api.CodeInvalid, api.CodeTooLarge:
		return exitUsage
	case api.CodeNotFound:
		return exitNotFound
	case api.CodeTimeout:
		return exitTimeout
	case api.CodeUnauthenticated, api.CodeForbidden:
		return exitDenied
	case api.CodeUnavailable, api.CodeTooManyRequests:
		return exitUnreachable
	case api.CodeConflict, api.CodeStaleRevision:
		return exitConflict
	case api.CodeFailed:
		return exitFailed
	default:
		return exitError
	}
}

// printError tells an error on stderr: as a problem document with --json, else in words
// with what to do about it.
func (a *app) printError(err error) {
	if _, ok := errors.AsType[*toldError](err); ok {
		return
	}
	hint := a.hint(err)
	if a.json {
		p := problemOf(err)
		b, _ := json.Marshal(struct { // strings and numbers always encode
			api.Problem
			Hint string `json:"hint,omitempty"`
		}{p, hint})
		a.note("%s", cleanJSON(b))
		return
	}
	// The server's text may be several lines, of which some quote what a program printed.
	for i, line := range strings.Split(strings.TrimSpace(message(err)), "\n") {
		if i == 0 {
			line = "error: " + line
		}
		a.note("%s", cleanLine(line))
	}
	if e, ok := errors.AsType[*api.Error](err); ok {
		for i := range e.Fields {
			if text := e.Fields[i].Error(); !strings.Contains(e.Message, text) {
				a.note("  %s", cleanText(text))
			}
		}
	}
	if hint != "" {
		a.note("  %s", hint)
	}
}

// message is the error's text in words that a user of the command line knows.
func message(err error) string {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "timed out: " + strings.TrimSuffix(err.Error(), ": "+context.DeadlineExceeded.Error())
	default:
		return err.Error()
	}
}

func problemOf(err error) api.Problem {
	if e, ok := errors.AsType[*api.Error](err); ok {
		p := e.Problem("")
		p.Type = ""
		return p
	}
	code := api.CodeOf(err)
	var fields []api.FieldError
	if list, ok := errors.AsType[api.FieldErrors](err); ok {
		fields = list
	} else if one, ok := errors.AsType[*api.FieldError](err); ok {
		fields = []api.FieldError{*one}
	}
	switch exitCode(err) {
	case exitUsage:
		code = api.CodeInvalid
	case exitTimeout:
		code = api.CodeTimeout
	case exitUnreachable:
		code = api.CodeUnavailable
	}
	return api.Problem{Code: code, Status: code.Status(), Detail: message(err), Fields: fields}
}

// hint returns what to do about an error, as far as that is known.
func (a *app) hint(err error) string {
	if h, ok := errors.AsType[*hintError](err); ok {
		return h.hint
	}
	if u, ok := errors.AsType[*usageError](err); ok {
		return fmt.Sprintf("see '%s --help'", u.cmd)
	}
	if un, ok := errors.AsType[*client.UnreachableError](err); ok {
		return a.unreachableHint(un)
	}
	switch api.CodeOf(err) {
	case api.CodeUnauthenticated:
		return a.tokenHint()
	case api.CodeNotFound:
		return "'ten ps --all' lists the instances, 'ten service list' the services"
	case api.CodeForbidden:
		return "this needs an admin token: --token or TENEMENT_TOKEN"
	case api.CodeDiskFull:
		return "free space on the file system of the server's data directory; it resumes by itself"
	case api.CodeTooManyRequests:
		if e, ok := errors.AsType[*api.Error](err); ok && e.RetryAfter > 0 {
			return "try again in " + e.RetryAfter.String()
		}
	}
	return ""
}

func (a *app) unreachableHint(un *client.UnreachableError) string {
	socket := strings.HasPrefix(un.Endpoint, "unix://")
	switch {
	case socket && errors.Is(un.Err, fs.ErrPermission):
		return "the socket is for root and the server's own user: use sudo, or --server http://127.0.0.1:8080 with a token"
	case len(a.serverNames()) > 0:
		return "check --server / TENEMENT_SERVER, and that the server runs"
	case socket:
		return "the server that used this socket is gone; start one with 'ten serve'"
	default:
		hint := "start a server with 'ten serve', or name one with --server / TENEMENT_SERVER"
		if path, ok := a.socket(); !ok && path != "" {
			hint += ";\n  one on this machine is also found by its --data-dir: there is no " + cleanText(path)
		}
		return hint
	}
}

func (a *app) tokenHint() string {
	if a.tokenText() != "" {
		return "the token given is not known to this server; 'ten token-gen' on the server makes one"
	}
	if len(a.serverNames()) == 0 {
		return "name the server's data directory with --data-dir, or make a token there with 'ten token-gen'"
	}
	return "make a token with 'ten token-gen' on the server, then pass it by --token or TENEMENT_TOKEN"
}
