package fake

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tenement-fleet/tenement/runtime/driver"
)

var (
	killed     = driver.Exit{Known: true, Code: 128 + int(syscall.SIGKILL), Signal: syscall.SIGKILL}
	terminated = driver.Exit{Known: true, Code: 128 + int(syscall.SIGTERM), Signal: syscall.SIGTERM}
)

// program is one pretended program; its goroutine lives until it ends.
type program struct {
	machine   *Machine
	handle    driver.Handle
	spec      driver.Spec
	behaviour Behaviour
	out       *os.File // holds the output open, as a real program does; may be nil

	termOnce sync.Once
	term     chan struct{}    // closed by the first Terminate
	ends     chan driver.Exit // how to end at once; the first counts
	exit     driver.Exit      // set before done is closed
	done     chan struct{}
}

// end makes the program end; it returns at once.
func (p *program) end(exit driver.Exit) {
	select {
	case p.ends <- exit:
	default: // it is ending already
	}
}

func (p *program) terminate() {
	if !p.behaviour.Stubborn {
		p.termOnce.Do(func() { close(p.term) })
	}
}

// run is the life of a program.
func (p *program) run() {
	b := p.behaviour
	var server *http.Server
	var serving sync.WaitGroup
	defer func() {
		if server != nil {
			_ = server.Close()
		}
		serving.Wait()
		if p.out != nil {
			_ = p.out.Close()
		}
		p.machine.mu.Lock()
		delete(p.machine.programs, p.handle.PID)
		p.machine.mu.Unlock()
		close(p.done)
	}()
	if p.out != nil && b.Output != "" {
		_, _ = io.WriteString(p.out, b.Output)
	}
	var ready, exit, dying <-chan time.Time
	if b.Listen != "" {
		ready = time.After(b.ReadyAfter)
	}
	if b.ExitAfter > 0 {
		exit = time.After(b.ExitAfter)
	}
	term := p.term
	for {
		select {
		case <-ready:
			ready = nil
			listener, err := p.listen()
			if err != nil {
				p.exit = driver.Exit{Known: true, Code: 1}
				return
			}
			server = p.server()
			serving.Go(func() { _ = server.Serve(listener) })
		case <-term:
			term, dying = nil, time.After(b.TermDelay)
		case <-dying:
			p.exit = terminated
			if b.Graceful {
				p.exit = driver.Exit{Known: true, Code: b.ExitCode}
			}
			return
		case <-exit:
			p.exit = driver.Exit{Known: true, Code: b.ExitCode}
			return
		case p.exit = <-p.ends:
			return
		}
	}
}

func (p *program) server() *http.Server {
	handler := p.behaviour.Handler
	if handler == nil {
		says := map[string]string{"/env": strings.Join(p.spec.Env, "\n") + "\n"}
		name := p.spec.Ref.String() + "\n"
		handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, cmp.Or(says[r.URL.Path], name)) })
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{Handler: handler, Protocols: &protocols, ReadHeaderTimeout: time.Minute}
}

func (p *program) listen() (net.Listener, error) {
	switch b := p.behaviour; b.Listen {
	case "tcp":
		return net.Listen("tcp", net.JoinHostPort("127.0.0.1", p.env("PORT")))
	case "unix":
		path := p.env("SOCKET_PATH")
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("remove old socket: %w", err)
		}
		return net.Listen("unix", path)
	default:
		return nil, fmt.Errorf("listen: no network %q", b.Listen)
	}
}

func (p *program) env(name string) string {
	for _, e := range p.spec.Env {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			return v
		}
	}
	return ""
}
