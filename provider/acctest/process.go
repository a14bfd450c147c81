package acctest

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/api/client"
	"github.com/tenement-fleet/tenement/runtime/driver"
	"github.com/tenement-fleet/tenement/runtime/fake"
	"github.com/tenement-fleet/tenement/server"
	"github.com/tenement-fleet/tenement/server/config"
	"github.com/tenement-fleet/tenement/server/servertest"
)

// envServe holds, as JSON, the place of the node that a process is to be.
const envServe = "TEN_ACCTEST_SERVE"

// place is where a node lives that is a process of its own. Its ports stay the same when
// it is started again: HTTP, and the next two for peers and gossip.
type place struct {
	Dir, Name, TOML  string
	Port             int
	Join, SecretFile string
}

const ports = 3 // of a node

func (p place) address(nth int) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.Port+nth))
}

// serve is the life of such a process: a node whose programs are only pretended, and die
// with it. It ends with the test.
func serve(text string) int {
	var p place
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	machine := fake.NewMachine(nil)
	err := server.Run(context.Background(), server.Options{
		Load: p.load,
		Drivers: map[api.Isolation]driver.Driver{
			api.IsolationProcess:   machine.Driver(api.IsolationProcess),
			api.IsolationNamespace: machine.Driver(api.IsolationNamespace),
		},
		Version: "test", Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Serving: func(net.Addr) { fmt.Println("serving") },
	})
	fmt.Fprintln(os.Stderr, "the server has ended:", err)
	return 1
}

func (p place) load() (*config.Config, error) {
	file := filepath.Join(p.Dir, "tenement.toml")
	if err := os.WriteFile(file, []byte(p.TOML), 0o600); err != nil {
		return nil, err
	}
	peer, gossip := p.Port+1, p.Port+2
	flags := config.Flags{
		DataDir: p.Dir, Bind: "127.0.0.1", Port: &p.Port, PeerPort: &peer, GossipPort: &gossip, NodeName: p.Name, SecretFile: p.SecretFile,
	}
	if p.Join != "" {
		flags.Join = []string{p.Join}
	}
	return config.Load(config.Options{File: file, Env: []string{"PATH=" + os.Getenv("PATH")}, Flags: flags})
}

// process is a node in a process of its own: the test's own binary again.
type process struct {
	place
	id     string
	client *client.Client // over the admin socket
	cmd    *exec.Cmd
	stdin  io.Closer
}

// newProcess makes a place for a node, of which first, unless nil, is in the cluster
// already.
func newProcess(t *testing.T, name string, port int, first *process) *process {
	t.Helper()
	p := &process{place: place{Dir: servertest.TempDir(t), Name: name, Port: port}}
	if first != nil {
		p.Join, p.SecretFile = first.address(1), filepath.Join(first.Dir, ".ten", "secret")
	}
	c, err := client.New(client.Config{Endpoints: []string{"unix://" + filepath.Join(p.Dir, "ten.sock")}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	p.client = c
	return p
}

// start returns once the node serves.
func (p *process) start() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	text, err := json.Marshal(p.place)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(p.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(self)
	cmd.Env, cmd.Stderr = append(os.Environ(), envServe+"="+string(text)), log
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	p.cmd = cmd
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		p.kill()
		said, _ := os.ReadFile(p.log())
		return fmt.Errorf("start node %s: it ended\n%s", p.Name, tail(string(said)))
	}
	return nil
}

func (p *process) log() string { return filepath.Join(p.Dir, "log") }

// kill ends the node as kill -9 does, and its programs too.
func (p *process) kill() {
	if p.cmd != nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait() // how it ended is known
		_ = p.stdin.Close()
		p.cmd = nil
	}
}

// freePorts returns the first of so many neighbouring ports that are free. They are below
// those that the kernel gives to outgoing connections: a node that is killed finds them free
// when it comes back.
func freePorts(t *testing.T, count int) int {
	t.Helper()
	for range 100 {
		first, free := 10_000+rand.IntN(20_000), 0 //nolint:gosec // no secret
		for ; free < count; free++ {
			ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(first+free)))
			if err != nil {
				break
			}
			_ = ln.Close()
		}
		if free == count {
			return first
		}
	}
	t.Fatalf("there are no %d free ports", count)
	return 0
}
