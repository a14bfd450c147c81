package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
)

const writeClients = 64

// benchWrites compares service writes through the HTTP API with bare raft.Apply calls
// on the same disk with the same log store, fsync on, interleaved.
func benchWrites(ctx context.Context, b *bench) error {
	dir, err := os.MkdirTemp("", "tb-")
	if err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	defer os.RemoveAll(dir) //nolint:errcheck // best effort
	r, closeRaft, err := bareRaft(dir)
	if err != nil {
		return err
	}
	defer closeRaft()
	n, err := b.startNode(ctx, "")
	if err != nil {
		return err
	}
	defer n.stop()

	span := time.Duration(float64(3*time.Second) * b.scale)
	var bare, api contender
	var ratios []float64
	var serial atomic.Int64
	payload := make([]byte, 600)
	for range 5 {
		if err := bare.measure(os.Getpid(), func() (float64, error) {
			return writeRate(span, func(int) error { return r.Apply(payload, 10*time.Second).Error() })
		}); err != nil {
			return fmt.Errorf("apply: %w", err)
		}
		if err := api.measure(n.cmd.Process.Pid, func() (float64, error) {
			return n.putRate(ctx, span, b.app, &serial)
		}); err != nil {
			return err
		}
		ratios = append(ratios, api.rates[len(api.rates)-1]/bare.rates[len(bare.rates)-1])
	}
	fmt.Printf("bare raft Apply  %s\nAPI write        %s, its client apart: %.2f × bare (bar 0.8)\n", &bare, &api, middle(ratios))
	return nil
}

// contender is one way to write, measured.
type contender struct {
	rates  []float64 // a second
	micros []float64 // of a process's CPU time a write
}

// measure takes the rate that run returns, and what it costs a process.
func (c *contender) measure(pid int, run func() (float64, error)) error {
	cpu, start := cpuTime([]int{pid}), time.Now()
	rate, err := run()
	if err != nil {
		return err
	}
	writes := rate * time.Since(start).Seconds()
	c.rates = append(c.rates, rate)
	c.micros = append(c.micros, float64((cpuTime([]int{pid})-cpu).Microseconds())/writes)
	return nil
}

// String tells the medians.
func (c *contender) String() string {
	return fmt.Sprintf("%6.0f/s, %3.0f µs of CPU each", middle(c.rates), middle(c.micros))
}

// putRate is writeRate for changes of a service for each client.
func (n *node) putRate(ctx context.Context, span time.Duration, command string, serial *atomic.Int64) (float64, error) {
	clients := make([]*putter, writeClients)
	for c := range clients {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "unix", filepath.Join(n.dataDir, "ten.sock"))
		if err != nil {
			return 0, fmt.Errorf("connect client: %w", err)
		}
		defer conn.Close() //nolint:errcheck // done with it
		clients[c] = &putter{conn: conn, r: bufio.NewReader(conn), name: fmt.Sprintf("s%d", c), command: command}
	}
	return writeRate(span, func(c int) error { return clients[c].put(serial.Add(1)) })
}

// putter changes one service over and over. It costs as little as a client can, for it
// shares the processors with the server that is measured.
type putter struct {
	conn          net.Conn
	r             *bufio.Reader
	name, command string
	request, body []byte
}

func (p *putter) put(serial int64) error {
	p.body = fmt.Appendf(p.body[:0], `{"name":%q,"command":%q,"args":[],"isolation":"process","env":{"N":"%d"}}`, p.name, p.command, serial)
	p.request = fmt.Appendf(p.request[:0], "PUT /api/services/%s HTTP/1.1\r\nHost: ten\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		p.name, len(p.body), p.body)
	if _, err := p.conn.Write(p.request); err != nil {
		return err
	}
	line, err := p.r.ReadSlice('\n')
	if err != nil {
		return err
	}
	status, length := string(line), -1
	for err == nil && len(line) > len("\r\n") {
		if line, err = p.r.ReadSlice('\n'); err == nil {
			if v, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
				length, err = strconv.Atoi(string(bytes.TrimSpace(v)))
			}
		}
	}
	if err != nil || length < 0 {
		return errors.Join(fmt.Errorf("put service: read answer: Content-Length is %d", length), err)
	}
	if !strings.HasPrefix(status, "HTTP/1.1 200 ") {
		return fmt.Errorf("put service: %s", strings.TrimSpace(status))
	}
	_, err = p.r.Discard(length)
	return err
}

// writeRate calls write from 64 goroutines for span and returns calls per second.
func writeRate(span time.Duration, write func(client int) error) (float64, error) {
	var done atomic.Int64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	start := time.Now()
	for c := range writeClients {
		wg.Go(func() {
			for time.Since(start) < span {
				if err := write(c); err != nil {
					failed.Store(&err)
					return
				}
				done.Add(1)
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return float64(done.Load()) / time.Since(start).Seconds(), nil
}

// nullFSM keeps nothing.
type nullFSM struct{}

// Apply implements raft.FSM.
func (nullFSM) Apply(*raft.Log) any { return nil }

// Snapshot implements raft.FSM.
func (nullFSM) Snapshot() (raft.FSMSnapshot, error) { return nullSnapshot{}, nil }

// Restore implements raft.FSM.
func (nullFSM) Restore(rc io.ReadCloser) error { return rc.Close() }

type nullSnapshot struct{}

// Persist implements raft.FSMSnapshot.
func (nullSnapshot) Persist(s raft.SnapshotSink) error { return s.Close() }

// Release implements raft.FSMSnapshot.
func (nullSnapshot) Release() {}

// bareRaft is one node with the stores that ten uses and nothing around them.
func bareRaft(dir string) (*raft.Raft, func(), error) {
	store, err := raftboltdb.New(raftboltdb.Options{Path: filepath.Join(dir, "raft.db")})
	if err != nil {
		return nil, nil, fmt.Errorf("open log store: %w", err)
	}
	snaps := raft.NewInmemSnapshotStore()
	conf := raft.DefaultConfig()
	conf.LocalID = "bare"
	conf.Logger = hclog.NewNullLogger()
	addr, trans := raft.NewInmemTransport("bare")
	r, err := raft.NewRaft(conf, nullFSM{}, store, store, snaps, trans)
	if err != nil {
		return nil, nil, fmt.Errorf("start raft: %w", err)
	}
	if err := r.BootstrapCluster(raft.Configuration{Servers: []raft.Server{{ID: "bare", Address: addr}}}).Error(); err != nil {
		return nil, nil, fmt.Errorf("bootstrap raft: %w", err)
	}
	for leads := range r.LeaderCh() {
		if leads {
			break
		}
	}
	return r, func() { _ = r.Shutdown().Error(); _ = store.Close() }, nil
}

func middle(v []float64) float64 { return slices.Sorted(slices.Values(v))[len(v)/2] }

// text returns the body of a GET through the admin socket.
func (n *node) text(path string) (string, error) {
	resp, err := n.admin.Get("http://ten" + path)
	if err != nil {
		return "", fmt.Errorf("get %s: %w", path, err)
	}
	defer resp.Body.Close() //nolint:errcheck // read to its end
	b, err := io.ReadAll(resp.Body)
	return string(b), err
}
