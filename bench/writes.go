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
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const writeClients = 64

// benchWrites compares service writes through the HTTP API with bare raft.Apply calls
// on the same disk with the same log store, fsync on, interleaved.
func benchWrites(ctx context.Context, b *bench) error {
	r, closeRaft, err := bareRaft(ctx, 1)
	if err != nil {
		return err
	}
	defer closeRaft()
	n, err := b.startNode(ctx, "")
	if err != nil {
		return err
	}
	defer n.stop()
	write := func(client int, serial int64, body []byte) (string, []byte) {
		name := "s" + strconv.Itoa(client)
		return "/api/services/" + name, fmt.Appendf(body, `{"name":%q,"command":%q,"args":[],"isolation":"process","env":{"N":"%d"}}`, name, b.app, serial)
	}
	bare, api, ratio, err := b.raceWrites(ctx, writeClients, r.apply, []*node{n}, n, write)
	if err != nil {
		return err
	}
	fmt.Printf("bare raft Apply  %s\nAPI write        %s, its client apart: %.2f × bare (bar 0.8)\n", bare, api, ratio)
	return nil
}

// raceWrites has so many clients write in turns to the rival and to a server, which is one
// of those whose CPU time is told, and returns the median ratio of their rates as well.
func (b *bench) raceWrites(ctx context.Context, clients int, rival func() error, servers []*node, to *node, write request) (bare, api *contender, ratio float64, err error) {
	span := time.Duration(float64(3*time.Second) * b.scale)
	bare, api = &contender{pids: []int{os.Getpid()}}, &contender{}
	for _, n := range servers {
		api.pids = append(api.pids, n.cmd.Process.Pid)
	}
	var serial atomic.Int64
	var ratios []float64
	for range 5 {
		if err := bare.measure(func() (float64, sample, error) {
			return writeRate(clients, span, func(int) error { return rival() })
		}); err != nil {
			return nil, nil, 0, fmt.Errorf("apply: %w", err)
		}
		if err := api.measure(func() (float64, sample, error) { return to.putRate(ctx, clients, span, write, &serial) }); err != nil {
			return nil, nil, 0, err
		}
		ratios = append(ratios, api.rates[len(api.rates)-1]/bare.rates[len(bare.rates)-1])
	}
	return bare, api, middle(ratios), nil
}

// contender is one way to write, measured.
type contender struct {
	pids   []int     // of its processes
	rates  []float64 // a second
	micros []float64 // of their CPU time a write
	took   sample
}

// measure takes the rate that run returns, and what it costs the processes.
func (c *contender) measure(run func() (float64, sample, error)) error {
	cpu := cpuTime(c.pids)
	rate, took, err := run()
	if err != nil {
		return err
	}
	c.rates = append(c.rates, rate)
	c.micros = append(c.micros, float64((cpuTime(c.pids)-cpu).Microseconds())/float64(len(took)))
	c.took = append(c.took, took...)
	return nil
}

// String tells the medians.
func (c *contender) String() string {
	return fmt.Sprintf("%6.0f/s, p50 %s, p99 %s, %3.0f µs of CPU each", middle(c.rates), ms(c.took.median()), ms(c.took.quantile(0.99)), middle(c.micros))
}

// request appends the body of a client's next PUT and tells its path.
type request func(client int, serial int64, body []byte) (path string, full []byte)

// putRate is writeRate for PUTs over kept connections to the admin socket.
func (n *node) putRate(ctx context.Context, clients int, span time.Duration, write request, serial *atomic.Int64) (float64, sample, error) {
	putters := make([]*putter, clients)
	for c := range putters {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "unix", n.socket())
		if err != nil {
			return 0, nil, fmt.Errorf("connect client: %w", err)
		}
		defer conn.Close() //nolint:errcheck // done with it
		putters[c] = &putter{conn: conn, r: bufio.NewReader(conn)}
	}
	return writeRate(clients, span, func(c int) error {
		p := putters[c]
		path, body := write(c, serial.Add(1), p.body[:0])
		p.body = body
		return p.put(path)
	})
}

// putter puts over one connection. It costs as little as a client can, for it shares the
// processors with the servers that are measured.
type putter struct {
	conn          net.Conn
	r             *bufio.Reader
	request, body []byte
}

// put sends what is in body.
func (p *putter) put(path string) error {
	p.request = fmt.Appendf(p.request[:0], "PUT %s HTTP/1.1\r\nHost: ten\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		path, len(p.body), p.body)
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
		return errors.Join(fmt.Errorf("put: read answer: Content-Length is %d", length), err)
	}
	if !strings.HasPrefix(status, "HTTP/1.1 200 ") {
		return fmt.Errorf("put: %s", strings.TrimSpace(status))
	}
	_, err = p.r.Discard(length)
	return err
}

// writeRate has so many clients call write for span, and returns calls per second and how
// long each took.
func writeRate(clients int, span time.Duration, write func(client int) error) (float64, sample, error) {
	took := make([]sample, clients)
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	start := time.Now()
	for c := range clients {
		wg.Go(func() {
			for last := time.Since(start); last < span; {
				if err := write(c); err != nil {
					failed.Store(&err)
					return
				}
				now := time.Since(start)
				took[c] = append(took[c], now-last)
				last = now
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return 0, nil, *err
	}
	all := slices.Concat(took...)
	return float64(len(all)) / time.Since(start).Seconds(), all, nil
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
