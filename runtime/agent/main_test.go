package agent

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv(envProgram) != "" {
		fmt.Fprintln(os.Stderr, program())
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// envProgram, in its environment, makes the test binary the program that an instance
// runs: it counts its starts in its data directory and serves the count, on PORT or, if
// the variable says so, on SOCKET_PATH.
const envProgram = "AGENT_TEST_PROGRAM"

func program() error {
	name := filepath.Join(os.Getenv("TENEMENT_DATA_DIR"), "starts")
	before, err := os.ReadFile(name)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	starts := append(before, 'x')
	if err := os.WriteFile(name, starts, 0o600); err != nil {
		return err
	}
	network, address := "tcp", "127.0.0.1:"+os.Getenv("PORT")
	if os.Getenv(envProgram) == "unix" {
		network, address = "unix", os.Getenv("SOCKET_PATH")
	}
	ln, err := net.Listen(network, address)
	if err != nil {
		return err
	}
	return http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprint(w, len(starts))
	}))
}
