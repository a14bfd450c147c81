package health

import (
	"bufio"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

// helperEnv makes the test binary act as a program that listens when told to.
const helperEnv = "HEALTH_TEST_HELPER"

func TestMain(m *testing.M) {
	if os.Getenv(helperEnv) != "" {
		helper()
		return
	}
	goleak.VerifyTestMain(m)
}

// helper reads lines "tcp - MICROSECONDS" or "unix PATH MICROSECONDS". For each it binds,
// prints the port, rests for that time, listens, and prints the monotonic clock of just before.
func helper() {
	lines, former := bufio.NewScanner(os.Stdin), -1
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		micros, err := strconv.Atoi(f[2])
		if err != nil {
			panic(err)
		}
		fd := helperListen(f[0], f[1], micros)
		_ = syscall.Close(former) // a program has few descriptors
		former = fd
	}
}

func closeReadiness(tb testing.TB, r *Readiness) {
	tb.Helper()
	if err := r.Close(); err != nil {
		tb.Error(err)
	}
}
