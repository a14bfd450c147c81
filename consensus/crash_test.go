package consensus

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// crashDirEnv makes this test binary the program that gets killed.
const crashDirEnv = "TENEMENT_TEST_CRASH_DIR"

// writeUntilKilled opens the node of dir and prints the number of every service that it
// has been told is stored, from several goroutines at once.
func writeUntilKilled(dir string) {
	n, err := Open(context.Background(), Config{
		Dir: dir, Node: api.Node{Name: "crash"}, Reserve: -1, patience: time.Minute,
		Fatal: func(err error) { panic(err) },
	})
	if err != nil {
		panic(err)
	}
	fmt.Println("open")
	var mu sync.Mutex
	next := n.View().InstanceCount("")
	for range n.View().Services() {
		next++
	}
	for range 8 {
		go func() {
			for {
				mu.Lock()
				number := next
				next++
				mu.Unlock()
				name := "s" + strconv.Itoa(number)
				if _, err := n.PutService(context.Background(), &api.Service{Name: name, Command: "x"}, nil); err != nil {
					panic(err)
				}
				fmt.Println(name) // one write system call: whole or not at all
				if number%50 == 0 {
					if err := n.raft.Snapshot().Error(); err != nil {
						fmt.Fprintln(os.Stderr, err)
					}
				}
			}
		}()
	}
	select {}
}

// A node that is killed at any moment has every write that it acknowledged when it is
// started again.
func TestKillLosesNothing(t *testing.T) {
	cycles := 20
	if testing.Short() {
		cycles = 3
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	acked := map[string]bool{}
	for range cycles {
		killWhileWriting(t, self, dir, acked)
		n := open(t, testConfig(t, dir))
		for name := range acked {
			if _, ok := n.View().Service(name); !ok {
				t.Errorf("%s was acknowledged and is lost", name)
			}
		}
		closeNode(t, n)
		if t.Failed() {
			return
		}
	}
	t.Logf("%d acknowledged writes survived %d kills", len(acked), cycles)
}

// killWhileWriting adds to acked what a writer acknowledges until it is killed. Half of
// the time it is killed while it starts.
func killWhileWriting(t *testing.T, self, dir string, acked map[string]bool) {
	t.Helper()
	cmd := exec.Command(self) //nolint:gosec // this test binary
	cmd.Env = append(os.Environ(), crashDirEnv+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if rand.N(4) == 0 {
		timer := time.AfterFunc(rand.N(30*time.Millisecond), func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
	}
	wanted := 1 + rand.N(100)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if name := lines.Text(); name != "open" {
			acked[name] = true
			wanted--
		}
		if wanted == 0 {
			if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
				t.Fatal(err)
			}
		}
	}
	err = cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != -1 {
		t.Fatalf("the writer was not killed, but ended with %v", err)
	}
}
