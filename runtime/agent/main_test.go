package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv(envProgram) != "" {
		fmt.Fprintln(os.Stderr, program(os.Getenv(envProgram)))
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// envProgram, in its environment, makes the test binary the program that an instance
// runs. It counts its starts in its data directory and serves the count:
//
//	tcp     on PORT
//	shared  the same, where it may share the port with others
//	once    the same, until it is sent SIGINT
//	unix    on SOCKET_PATH
//
// A stranger is no instance: it shares PORT, says so by a line, and waits for ever.
const envProgram = "AGENT_TEST_PROGRAM"

func program(kind string) error {
	if kind == "stranger" {
		ln, err := listen(kind)
		if err != nil {
			return err
		}
		fmt.Println("listening")
		for { // without cgo the runtime would call a mere select a deadlock, and end
			time.Sleep(time.Hour)
			runtime.KeepAlive(ln)
		}
	}
	name := filepath.Join(os.Getenv("TENEMENT_DATA_DIR"), "starts")
	before, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	starts := append(before, 'x')
	if err := os.WriteFile(name, starts, 0o600); err != nil {
		return err
	}
	ln, err := listen(kind)
	if err != nil {
		return err
	}
	if kind == "once" {
		done := make(chan os.Signal, 1)
		signal.Notify(done, os.Interrupt)
		go func() {
			<-done
			_ = ln.Close()
			select {}
		}()
	}
	err = http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprint(w, len(starts))
	}))
	if kind == "once" && errors.Is(err, net.ErrClosed) {
		select {}
	}
	return err
}

func listen(kind string) (net.Listener, error) {
	if kind == "unix" {
		return net.Listen("unix", os.Getenv("SOCKET_PATH"))
	}
	var l net.ListenConfig
	if kind == "shared" || kind == "stranger" {
		l.Control = func(_, _ string, c syscall.RawConn) error {
			var err error
			return errors.Join(c.Control(func(fd uintptr) { err = reusePort(fd) }), err)
		}
	}
	return l.Listen(context.Background(), "tcp", "127.0.0.1:"+os.Getenv("PORT"))
}
