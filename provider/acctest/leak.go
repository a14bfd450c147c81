package acctest

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// lingers bounds how long what a provider leaves open for the next call, its stream of
// events and its idle connections, outlives the last test.
const lingers = 15 * time.Second

// Main runs a package's tests, and fails if they leave goroutines behind.
func Main(m *testing.M) {
	code := m.Run()
	if code == 0 {
		code = leaked()
	}
	os.Exit(code)
}

func leaked() int {
	ctx, cancel := context.WithTimeout(context.Background(), lingers)
	defer cancel()
	var left error
	if until(ctx, func() bool { left = goleak.Find(); return left == nil }) {
		return 0
	}
	fmt.Fprintln(os.Stderr, "goroutines are left behind:", left)
	return 1
}
