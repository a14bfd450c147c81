// Command chat is a WebSocket chat room: what one visitor sends, all visitors get.
package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/coder/websocket"
)

//go:embed index.html
var page []byte

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	r := &room{visitors: map[chan []byte]struct{}{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		if _, err := w.Write(page); err != nil {
			log.Printf("send page: %v", err)
		}
	})
	mux.HandleFunc("GET /ws", r.serve)

	srv := &http.Server{
		Addr:              net.JoinHostPort("127.0.0.1", os.Getenv("PORT")),
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second,
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.ListenAndServe() }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve chat: %w", err)
	case <-ctx.Done():
		return srv.Close()
	}
}

// room passes every message on to every visitor.
type room struct {
	mu       sync.Mutex
	visitors map[chan []byte]struct{}
}

func (r *room) serve(w http.ResponseWriter, req *http.Request) {
	inbox := r.enter() // before the visitor is let in, so that nothing said from then on is missed
	defer r.leave(inbox)
	conn, err := websocket.Accept(w, req, nil)
	if err != nil {
		log.Printf("accept visitor: %v", err)
		return
	}
	defer conn.CloseNow() //nolint:errcheck // best effort on a connection that is going away

	ctx, cancel := context.WithCancel(req.Context())
	defer cancel()
	go func() {
		defer cancel()
		for {
			_, text, err := conn.Read(ctx)
			if err != nil {
				return
			}
			r.say(text)
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case text := <-inbox:
			if err := conn.Write(ctx, websocket.MessageText, text); err != nil {
				if !errors.Is(err, context.Canceled) {
					log.Printf("write to visitor: %v", err)
				}
				return
			}
		}
	}
}

func (r *room) enter() chan []byte {
	inbox := make(chan []byte, 16)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.visitors[inbox] = struct{}{}
	return inbox
}

func (r *room) leave(inbox chan []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.visitors, inbox)
}

// say never waits for a slow visitor: whoever has 16 messages unread misses this one.
func (r *room) say(text []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for inbox := range r.visitors {
		select {
		case inbox <- text:
		default:
		}
	}
}
