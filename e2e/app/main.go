// Command app is the program that the end-to-end tests run as an instance. What it
// does is chosen by request, and for its start by environment:
//
//	APP_START_DELAY  wait that long before listening
//	APP_TICK         print a numbered line to stdout that often
//	APP_FAIL         exit with that code instead of listening
//	APP_BEAT         append the monotonic clock, pid and id to that file every 2 ms, for ever
//	APP_LAST         on SIGUSR1 print that many numbered lines and exit
//
//	GET /            instance id, pid and number of requests so far
//	GET /starts      how often the instance was started, from a file in its data directory
//	GET /slow?d=1s   answers after d
//	GET /exit?code=3 ends the program
//	GET /stream?n=3&d=10ms   n lines, one every d, flushed
//	GET /env         the environment, a variable a line
//	GET /fds         what the descriptors beyond 2 are that it was started with, one a line
//	GET /say?line=x  prints the line
//	GET /ws          a WebSocket that echoes
//	GET /flood       prints as fast as it can from now on; ?stop=1 ends that
package main

import (
	"context"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/sys/unix"
)

func main() {
	if code := os.Getenv("APP_FAIL"); code != "" {
		fmt.Fprintln(os.Stderr, "app: told to fail")
		n, _ := strconv.Atoi(code)
		os.Exit(n)
	}
	if path := os.Getenv("APP_BEAT"); path != "" {
		go beat(path)
	}
	fds := inherited()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	starts := recordStart()
	go tick(ctx)
	lastWords()
	if d, err := time.ParseDuration(os.Getenv("APP_START_DELAY")); err == nil {
		<-time.After(d)
	}

	srv := &http.Server{Handler: routes(starts, fds), ReadHeaderTimeout: 5 * time.Second}
	ln, err := net.Listen("tcp", "127.0.0.1:"+os.Getenv("PORT"))
	if err != nil {
		log.Fatal(err)
	}
	go func() {
		<-ctx.Done()
		_ = srv.Close()
	}()
	_ = srv.Serve(ln)
}

// inherited returns what the open descriptors beyond 2 are, but for what the Go runtime
// itself has opened by now.
func inherited() []string {
	entries, _ := os.ReadDir("/proc/self/fd")
	var list []string
	for _, e := range entries {
		n, _ := strconv.Atoi(e.Name())
		link, err := os.Readlink("/proc/self/fd/" + e.Name())
		if n > 2 && err == nil && !strings.Contains(link, "[event") && !strings.HasPrefix(link, "/sys/fs/cgroup") {
			list = append(list, e.Name()+" "+link)
		}
	}
	return list
}

// recordStart appends to a file in the data directory and returns how often it did.
func recordStart() int {
	path := filepath.Join(os.Getenv("TENEMENT_DATA_DIR"), "starts")
	old, _ := os.ReadFile(path)
	if err := os.WriteFile(path, append(old, '.'), 0o600); err != nil {
		log.Fatal(err)
	}
	return len(old) + 1
}

// beat tells that the program runs, as one that must be alone would write its data.
func beat(path string) {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600) //nolint:gosec // the path is the test's
	if err != nil {
		log.Fatal(err)
	}
	for {
		var now unix.Timespec
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
			log.Fatal(err)
		}
		if _, err := fmt.Fprintln(f, now.Nano(), os.Getpid(), os.Getenv("TENEMENT_INSTANCE")); err != nil {
			log.Fatal(err)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func tick(ctx context.Context) {
	every, err := time.ParseDuration(os.Getenv("APP_TICK"))
	if err != nil {
		return
	}
	t := time.NewTicker(every)
	defer t.Stop()
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			fmt.Printf("tick %d of %d\n", n, os.Getpid())
		}
	}
}

// lastWords waits for SIGUSR1, if there is something to say then.
func lastWords() {
	lines, err := strconv.Atoi(os.Getenv("APP_LAST"))
	if err != nil {
		return
	}
	heard := make(chan os.Signal, 1)
	signal.Notify(heard, syscall.SIGUSR1)
	go func() {
		<-heard
		for n := range lines {
			fmt.Printf("last words %d of %d\n", n+1, lines)
		}
		os.Exit(0)
	}()
}

func routes(starts int, fds []string) http.Handler {
	var requests atomic.Int64
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "%s %d %d\n", os.Getenv("TENEMENT_INSTANCE"), os.Getpid(), requests.Add(1))
	})
	mux.HandleFunc("/starts", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, starts) })
	mux.HandleFunc("/env", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, strings.Join(os.Environ(), "\n"))
	})
	mux.HandleFunc("/fds", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, strings.Join(fds, "\n")) })
	mux.HandleFunc("/say", func(_ http.ResponseWriter, r *http.Request) { fmt.Println(r.URL.Query().Get("line")) })
	var flooding atomic.Bool
	mux.HandleFunc("/flood", func(_ http.ResponseWriter, r *http.Request) {
		stop := r.URL.Query().Get("stop") != ""
		if was := flooding.Swap(!stop); !was && !stop {
			go func() {
				lines := []byte(strings.Repeat("water water everywhere, nor any drop to drink\n", 1000))
				for flooding.Load() {
					_, _ = os.Stdout.Write(lines)
				}
			}()
		}
	})
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(duration(r)):
			fmt.Fprintln(w, "slow")
		case <-r.Context().Done():
		}
	})
	mux.HandleFunc("/ws", echo)
	mux.HandleFunc("/exit", func(_ http.ResponseWriter, r *http.Request) {
		code, _ := strconv.Atoi(r.URL.Query().Get("code"))
		os.Exit(code)
	})
	mux.HandleFunc("/stream", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Query().Get("n"))
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range n {
			fmt.Fprintf(w, "data: %d\n\n", i+1)
			_ = http.NewResponseController(w).Flush()
			<-time.After(duration(r))
		}
	})
	return mux
}

// echo sends every message back.
func echo(w http.ResponseWriter, r *http.Request) {
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer conn.CloseNow() //nolint:errcheck // best effort
	for {
		kind, text, err := conn.Read(r.Context())
		if err != nil || conn.Write(r.Context(), kind, text) != nil {
			return
		}
	}
}

func duration(r *http.Request) time.Duration {
	d, _ := time.ParseDuration(r.URL.Query().Get("d"))
	return d
}
