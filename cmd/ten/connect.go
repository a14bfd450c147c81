package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/tenement-fleet/tenement/api/client"
)

const (
	defaultServer = "http://127.0.0.1:8080"
	socketName    = "ten.sock"
	tokenName     = "api_token"

	// answerTime bounds calls that the server answers by itself, waitTime those that wait
	// for programs, whose own time-outs end them earlier and with a better reason.
	answerTime = 30 * time.Second
	waitTime   = 15 * time.Minute
)

// serverNames returns the servers that were asked for, as URLs; none if none were.
func (a *app) serverNames() []string {
	names := a.servers
	if len(names) == 0 {
		names = strings.Split(a.getenv("TENEMENT_SERVER"), ",")
	}
	var out []string
	for _, name := range names {
		name = strings.TrimSpace(name)
		switch {
		case name == "":
			continue
		case strings.HasPrefix(name, "/"):
			name = "unix://" + name
		case !strings.Contains(name, "://"):
			name = "http://" + name
		}
		out = append(out, name)
	}
	return out
}

// endpoints returns the servers to talk to: those asked for, the local socket if there is
// one, the default port of this machine.
func (a *app) endpoints() []string {
	if names := a.serverNames(); len(names) > 0 {
		return names
	}
	if path, ok := a.socket(); ok {
		return []string{socketURL(path)}
	}
	return []string{defaultServer}
}

// socket returns the path of the local admin socket, and whether it exists.
func (a *app) socket() (string, bool) {
	dir, err := a.dataDirectory()
	if err != nil {
		return "", false
	}
	path := filepath.Join(dir, socketName)
	fi, err := os.Stat(path)
	return path, err == nil && fi.Mode()&os.ModeSocket != 0
}

func socketURL(path string) string {
	return (&url.URL{Scheme: "unix", Path: filepath.ToSlash(path)}).String()
}

// dataDirectory returns the data directory of the server on this machine.
func (a *app) dataDirectory() (string, error) { return a.directory(a.dataDir) }

// directory is dataDirectory when the flag is given as it says.
func (a *app) directory(flag string) (string, error) {
	dir := cmp.Or(flag, a.getenv("TENEMENT_DATA_DIR"))
	if dir == "" && a.hooks.DataDir != nil {
		var err error
		if dir, err = a.hooks.DataDir(a.getenv("TENEMENT_CONFIG")); err != nil {
			return "", err
		}
	}
	if dir == "" { // no server runs here; a token may lie here all the same
		config, err := os.UserConfigDir()
		if err != nil {
			return "", fmt.Errorf("find data directory: %w", err)
		}
		dir = filepath.Join(config, "tenement")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("find data directory: %w", err)
	}
	return dir, nil
}

// tokenText returns the token that was given, not the one on disk.
func (a *app) tokenText() string { return cmp.Or(a.token, a.getenv("TENEMENT_TOKEN")) }

// savedToken returns the token that token-gen left in the data directory.
func (a *app) savedToken() string {
	dir, err := a.dataDirectory()
	if err != nil {
		return ""
	}
	b, err := os.ReadFile(filepath.Join(dir, tokenName))
	if err != nil {
		return "" // none, or not ours to read: the server's refusal tells what to do
	}
	return strings.TrimSpace(string(b))
}

// connect returns a client of the server that is meant. The caller closes it.
func (a *app) connect() (*client.Client, error) {
	names := a.endpoints()
	token := a.tokenText()
	// The saved token is for the server on this machine: another one must not learn it.
	if token == "" && !slices.ContainsFunc(names, func(n string) bool { return !isLocal(n) }) {
		token = a.savedToken()
	}
	return a.clientOf(names, token)
}

func (a *app) clientOf(names []string, token string) (*client.Client, error) {
	return client.New(client.Config{
		Endpoints: names, Token: token, UserAgent: "ten/" + version + " (" + runtime.GOOS + ")",
		Timeout: answerTime, Attempts: 4, Backoff: 50 * time.Millisecond, MaxBackoff: 2 * time.Second,
		Notify: func(err error, in time.Duration) {
			if p := a.waiting.Load(); p != nil {
				p.say(fmt.Sprintf("%s; trying again in %s", shortly(err), max(in.Round(time.Second), time.Second)))
			}
		},
	})
}

// shortly tells a passing error in a few words.
func shortly(err error) string {
	if _, ok := errors.AsType[*client.UnreachableError](err); ok {
		return "no connection"
	}
	return err.Error()
}

// isLocal reports whether an endpoint is on this machine, by its name alone.
func isLocal(name string) bool {
	u, err := url.Parse(name)
	if err != nil {
		return false
	}
	host := u.Hostname()
	return u.Scheme == "unix" || host == "localhost" || strings.HasSuffix(host, ".localhost") || net.ParseIP(host).IsLoopback()
}

// call runs f with a connected client, for at most limit, while a progress line says what
// it waits for.
func (a *app) call(ctx context.Context, what string, limit time.Duration, f func(context.Context, *client.Client) error) error {
	c, err := a.connect()
	if err != nil {
		return &usageError{cmd: "ten", err: err}
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return a.wait(what, func() error { return f(ctx, c) })
}

// wait shows a progress line while f runs.
func (a *app) wait(what string, f func() error) error {
	p := a.startProgress(what)
	a.waiting.Store(p)
	defer func() {
		a.waiting.Store(nil)
		p.end()
	}()
	return f()
}

func notThere(err error) bool { return errors.Is(err, fs.ErrNotExist) }
