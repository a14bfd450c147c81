//go:build linux

package fake_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/runtime/driver"
	"github.com/tenement-fleet/tenement/runtime/driver/drivertest"
	"github.com/tenement-fleet/tenement/runtime/fake"
)

func TestMain(m *testing.M) {
	drivertest.Main(m, func() (driver.Driver, error) {
		return fake.NewMachine(nil).Driver(api.IsolationProcess), nil
	})
}

// conformant acts as the programs of drivertest do.
func conformant(spec driver.Spec) fake.Behaviour {
	program, _ := strings.CutPrefix(spec.Env[0], drivertest.EnvProgram+"=")
	name, arg, _ := strings.Cut(program, " ")
	n, _ := strconv.Atoi(arg)
	switch name {
	case "exit":
		return fake.Behaviour{ExitAfter: 1, ExitCode: n}
	case "stubborn":
		return fake.Behaviour{Stubborn: true}
	case "graceful":
		return fake.Behaviour{Graceful: true, ExitCode: n}
	default:
		return fake.Behaviour{}
	}
}

func TestConformance(t *testing.T) {
	m := fake.NewMachine(conformant)
	t.Cleanup(m.Close)
	drivertest.Run(t, drivertest.Config{
		Open:      func(testing.TB) driver.Driver { return m.Driver(api.IsolationNamespace) },
		Simulated: true,
	})
}

var ref = api.Ref{Service: "hello", ID: "world"}

func start(t *testing.T, d driver.Driver, env ...string) driver.Process {
	t.Helper()
	p, err := d.Start(t.Context(), driver.Spec{Ref: ref, Start: "s1", Env: env})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestListen(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	socket := filepath.Join(t.TempDir(), "s")
	m := fake.NewMachine(nil)
	defer m.Close()

	taken := start(t, m.Driver(api.IsolationProcess), "PORT="+port)
	<-taken.Done()
	if got := taken.Exit(); got.Code != 1 || got.Success() {
		t.Errorf("a program whose port is taken: %+v", got)
	}
	_ = l.Close()

	for network, address := range map[string]string{"tcp": "127.0.0.1:" + port, "unix": socket} {
		m := fake.NewMachine(func(driver.Spec) fake.Behaviour { return fake.Behaviour{Listen: network} })
		p := start(t, m.Driver(api.IsolationProcess), "PORT="+port, "SOCKET_PATH="+socket)
		if got := get(t, network, address); got != "hello:world\n" {
			t.Errorf("over %s: %q", network, got)
		}
		m.Close()
		<-p.Done()
		if c, err := net.Dial(network, address); err == nil {
			_ = c.Close()
			t.Errorf("%s still accepts connections", network)
		}
	}
}

// get asks until somebody listens.
func get(t *testing.T, network, address string) string {
	t.Helper()
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			for {
				c, err := new(net.Dialer).DialContext(ctx, network, address)
				if err == nil || ctx.Err() != nil {
					return c, err
				}
				runtime.Gosched()
			}
		},
	}, Timeout: time.Minute}
	resp, err := client.Get("http://instance/")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestTimes(t *testing.T) {
	for _, c := range []struct {
		name string
		b    fake.Behaviour
		want time.Duration
		code int
	}{
		{"exits by itself", fake.Behaviour{ExitAfter: time.Hour, ExitCode: 3}, time.Hour, 3},
		{"slow start", fake.Behaviour{StartDelay: time.Minute, ExitAfter: time.Hour}, time.Hour + time.Minute, 0},
		{"slow end", fake.Behaviour{TermDelay: time.Second}, time.Second, 143},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := fake.NewMachine(func(driver.Spec) fake.Behaviour { return c.b })
				began := time.Now()
				p := start(t, m.Driver(api.IsolationProcess))
				if c.b.TermDelay > 0 {
					if err := p.Terminate(); err != nil {
						t.Fatal(err)
					}
				}
				<-p.Done()
				if got := time.Since(began); got != c.want || p.Exit().Code != c.code {
					t.Errorf("ended after %v: %+v; want %v, %d", got, p.Exit(), c.want, c.code)
				}
			})
		})
	}
}

func TestStartFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := fake.Behaviour{StartDelay: time.Hour, StartError: os.ErrPermission}
		m := fake.NewMachine(func(driver.Spec) fake.Behaviour { return b })
		d := m.Driver(api.IsolationProcess)
		if _, err := d.Start(t.Context(), driver.Spec{Ref: ref}); !errors.Is(err, os.ErrPermission) {
			t.Errorf("Start = %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := d.Start(ctx, driver.Spec{Ref: ref}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Start = %v", err)
		}
		if got := m.Count(fake.OpStart, ref); got != 2 || len(m.Running(ref)) != 0 {
			t.Errorf("%d starts, %d running", got, len(m.Running(ref)))
		}
	})
}

func TestRecords(t *testing.T) {
	m := fake.NewMachine(func(driver.Spec) fake.Behaviour { return fake.Behaviour{Output: "hello\n"} })
	defer m.Close()
	first, next := m.Driver(api.IsolationNamespace), m.Driver(api.IsolationNamespace)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p, err := first.Start(t.Context(), driver.Spec{Ref: ref, Start: "s1", Stdout: w})
	if err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	p.Release()
	h, err := next.FindStart(t.Context(), "s1")
	if err != nil || h != m.Running(ref)[0] {
		t.Fatalf("FindStart = %+v, %v", h, err)
	}
	q, err := next.Recover(t.Context(), h)
	if err != nil {
		t.Fatal(err)
	}
	if n := m.Crash(ref, driver.Exit{Known: true, Code: 9}); n != 1 || q.Exit().Code != 9 {
		t.Errorf("crashed %d, %+v", n, q.Exit())
	}
	if b, err := io.ReadAll(r); err != nil || string(b) != "hello\n" {
		t.Errorf("output %q, %v", b, err)
	}
	_, err = next.Recover(t.Context(), h)
	if !errors.Is(err, driver.ErrGone) {
		t.Errorf("Recover = %v", err)
	}
	var got []string
	for _, c := range m.Calls() {
		got = append(got, fmt.Sprint(c.Op, " ", c.Ref, " ", c.Err != nil))
	}
	want := []string{
		"start hello:world false", "release hello:world false", "find hello:world false",
		"recover hello:world false", "recover : true",
	}
	if !slices.Equal(got, want) {
		t.Errorf("calls = %q", got)
	}
}

func BenchmarkCycle(b *testing.B) {
	m := fake.NewMachine(func(driver.Spec) fake.Behaviour { return fake.Behaviour{} })
	defer m.Close()
	d := m.Driver(api.IsolationProcess)
	for b.Loop() {
		p, err := d.Start(b.Context(), driver.Spec{Ref: ref, Start: "s"})
		if err != nil {
			b.Fatal(err)
		}
		_ = p.Terminate()
		<-p.Done()
		p.Release()
	}
}
