package servertest_test

import (
	"context"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/runtime/driver"
	"github.com/tenement-fleet/tenement/runtime/fake"
	"github.com/tenement-fleet/tenement/server/servertest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// What asks a node that is gone ends a moment after memberlist was shut down.
		goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).probeNode"))
}

func ref(id string) api.Ref { return api.Ref{Service: "app", ID: id} }

// app is a tenement.toml with one service.
func app(keys, instances string) string {
	return "[service.app]\ncommand = \"true\"\n" + keys + "\n[instances]\napp = [" + instances + "]\n"
}

// usage is what sleeping instances must leave none of.
type usage struct{ goroutines, fds, files int }

func measure(t *testing.T, n *servertest.Node) usage {
	t.Helper()
	n.HTTP.CloseIdleConnections()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skipf("skipped: needs /proc: %v", err)
	}
	u := usage{goroutines: runtime.NumGoroutine(), fds: len(fds)}
	err = filepath.WalkDir(n.DataDir, func(path string, _ fs.DirEntry, err error) error {
		if dir := filepath.Join(n.DataDir, ".ten"); !strings.HasPrefix(path, filepath.Join(dir, "raft")) && !strings.HasPrefix(path, filepath.Join(dir, "logs")) {
			u.files++ // the number of log and Raft files has bounds of its own
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// TestCycles lets instances sleep and wake again and again; nothing may be left behind
// that grows with the number of cycles. TEN_LONG=1 makes it 100,000 of them.
func TestCycles(t *testing.T) {
	cycles := 2000
	if os.Getenv("TEN_LONG") != "" {
		cycles = 100_000
	}
	const instances = 16
	var list []string
	for i := range instances {
		list = append(list, fmt.Sprintf("%q", fmt.Sprint("i", i)))
	}
	// Of two servers on one machine, both can give a port to a program before either of
	// them listens. Who answers says where it runs, so that this is not taken for an error.
	here := fmt.Sprintf("%d %p", os.Getpid(), t)
	m := machine(t, func(s driver.Spec) fake.Behaviour {
		return fake.Behaviour{Listen: "tcp", Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, here, " ", s.Ref)
		})}
	})
	n := servertest.Start(t, servertest.Config{TOML: app("", strings.Join(list, ",")), Machine: m})
	var strangers atomic.Int64
	run := func(cycles int) {
		var wg sync.WaitGroup
		for i := range instances {
			wg.Go(func() {
				id := fmt.Sprint("i", i)
				for range cycles / instances {
					in, err := n.Client.Stop(context.Background(), ref(id), false)
					if err != nil || in.State() != api.StateAsleep {
						t.Errorf("stop %s: %v, %v", id, in, err)
						return
					}
					status, body, err := n.Get(id+".app.localhost", "/")
					if status == 200 && !strings.HasPrefix(body, here) {
						strangers.Add(1)
						t.Logf("%s: the program of another server on this machine answered: %.60q", id, body)
					} else if status != 200 || body != here+" app:"+id {
						t.Errorf("wake %s: %d %q %v", id, status, body, err)
						return
					}
				}
				if _, err := n.Client.Stop(context.Background(), ref(id), false); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	run(10 * instances) // what is made once is made
	before, starts := measure(t, n), n.Machine.Count(fake.OpStart, api.Ref{})
	began := time.Now()
	run(cycles)
	took := time.Since(began)
	if got := n.Machine.Count(fake.OpStart, api.Ref{}) - starts; got != cycles && !t.Failed() && strangers.Load() == 0 {
		t.Errorf("%d starts in %d cycles", got, cycles)
	}
	if running := n.Machine.Running(api.Ref{}); len(running) > 0 {
		t.Errorf("%d programs run", len(running))
	}
	// Connections end a moment after their requests, with them a few goroutines and fds.
	var after usage
	const slack = 8
	within := func() bool {
		after = measure(t, n)
		return after.goroutines <= before.goroutines+slack && after.fds <= before.fds+slack && after.files <= before.files
	}
	for deadline := time.Now().Add(20 * time.Second); !within() && time.Now().Before(deadline); {
		runtime.Gosched()
	}
	t.Logf("%d cycles in %s, %.2f ms each; before %+v, after %+v", cycles, took.Round(time.Millisecond), took.Seconds()*1000/float64(cycles), before, after)
	if !within() {
		t.Errorf("left behind: before %+v, after %+v", before, after)
	}
}
