package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/terraform-plugin-go/tfprotov6"
	"github.com/hashicorp/terraform-plugin-go/tftypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/runtime/driver"
	"github.com/tenement-fleet/tenement/runtime/fake"
	"github.com/tenement-fleet/tenement/server"
	"github.com/tenement-fleet/tenement/server/config"
)

// benchInit has Terraform fetch the provider from a server, again and again into an empty
// directory.
func benchInit(ctx context.Context, b *bench) error {
	n, err := b.startTLS(ctx)
	if err != nil {
		return err
	}
	defer n.stop()
	ca, err := n.text("/api/cluster/ca")
	if err != nil {
		return err
	}
	var took sample
	for range b.scaled(b.counts.inits) {
		d, err := b.initFrom(ctx, net.JoinHostPort("localhost", n.flags[1]), ca)
		if err != nil {
			return skipped(err)
		}
		took = append(took, d)
	}
	fmt.Printf("terraform init   %s: bar 3 s: %s\n", took, met(took.median() <= 3*time.Second))
	return nil
}

// initFrom fetches the provider from a server's TLS port into an empty directory.
func (b *bench) initFrom(ctx context.Context, address, ca string) (time.Duration, error) {
	w, err := b.newWorkspace(fmt.Sprintf("terraform {\n  required_providers {\n    ten = { source = %q }\n  }\n}\n", address+"/tenement/ten"))
	if err != nil {
		return 0, err
	}
	defer w.remove()
	if err := errors.Join(w.write("ca.pem", ca), w.write("cli.tfrc", "")); err != nil {
		return 0, fmt.Errorf("write CA: %w", err)
	}
	w.env = append(w.env, "SSL_CERT_FILE="+filepath.Join(w.dir, "ca.pem"))
	return w.run(ctx, "init")
}

// startTLS starts a server with a TLS port, which is in its flags.
func (b *bench) startTLS(ctx context.Context) (*node, error) {
	ports := [2]int{}
	for i := range ports {
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		ports[i] = port
	}
	n, err := b.newNode("127.0.0.1", ports[0], "")
	if err != nil {
		return nil, err
	}
	n.flags = []string{"--tls-port", strconv.Itoa(ports[1])}
	return n, n.start(ctx)
}

// benchStartProvider starts the provider as Terraform does, asks for its schema and
// configures it.
func benchStartProvider(ctx context.Context, b *bench) error {
	var said, configured sample
	for i := range b.scaled(b.counts.starts) + 2 {
		s, c, err := startProvider(ctx, b.ten)
		if err != nil {
			return err
		}
		if i >= 2 { // the first two warm the caches
			said, configured = append(said, s), append(configured, c)
		}
	}
	fmt.Printf("process → it says where it listens  %s\nprocess → configured                %s: bar 100 ms: %s\n",
		said, configured, met(configured.median() <= 100*time.Millisecond))
	return nil
}

// The words of Terraform's plugin protocol.
const (
	magicCookie = "TF_PLUGIN_MAGIC_COOKIE=d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2"
	getSchema   = "/tfplugin6.Provider/GetProviderSchema"
	setConfig   = "/tfplugin6.Provider/ConfigureProvider"
	maxSchema   = 64 << 20
	protocolSix = "PLUGIN_PROTOCOL_VERSIONS=6"
)

// startProvider returns the time until a new provider has said where it listens, and until
// it is configured.
func startProvider(ctx context.Context, program string) (said, configured time.Duration, err error) {
	cmd := exec.CommandContext(ctx, program) //nolint:gosec // our own binary
	cmd.Env = append(os.Environ(), magicCookie, protocolSix, "TF_LOG=")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, 0, err
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, 0, fmt.Errorf("start provider: %w", err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // how it ended is known
	}()
	line, err := bufio.NewReader(out).ReadString('\n') // 1|6|unix|/tmp/plugin123|grpc|
	if err != nil {
		return 0, 0, fmt.Errorf("start provider: it says nothing: %w", err)
	}
	said = time.Since(start)
	words := strings.Split(line, "|")
	if len(words) < 5 || words[2] != "unix" {
		return 0, 0, fmt.Errorf("start provider: it says %q", line)
	}
	conn, err := grpc.NewClient("unix://"+words[3], grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{}), grpc.MaxCallRecvMsgSize(maxSchema)))
	if err != nil {
		return 0, 0, fmt.Errorf("reach provider: %w", err)
	}
	defer conn.Close() //nolint:errcheck // the process ends
	var schema, answer []byte
	if err := conn.Invoke(ctx, getSchema, []byte{}, &schema); err != nil {
		return 0, 0, fmt.Errorf("ask for the schema: %w", err)
	}
	request, err := providerConfig()
	if err != nil {
		return 0, 0, err
	}
	if err := conn.Invoke(ctx, setConfig, request, &answer); err != nil || len(answer) > 0 {
		return 0, 0, fmt.Errorf("configure provider: %q, %w", answer, err)
	}
	return said, time.Since(start), nil
}

// providerConfig is a ConfigureProvider.Request: Terraform's version, and a configuration.
func providerConfig() ([]byte, error) {
	typ := tftypes.Object{AttributeTypes: map[string]tftypes.Type{
		"endpoints": tftypes.List{ElementType: tftypes.String}, "token": tftypes.String, "ca": tftypes.String,
	}}
	value, err := tfprotov6.NewDynamicValue(typ, tftypes.NewValue(typ, map[string]tftypes.Value{
		"endpoints": tftypes.NewValue(typ.AttributeTypes["endpoints"], []tftypes.Value{tftypes.NewValue(tftypes.String, "http://127.0.0.1:8080")}),
		"token":     tftypes.NewValue(tftypes.String, "none"),
		"ca":        tftypes.NewValue(tftypes.String, nil),
	}))
	if err != nil {
		return nil, fmt.Errorf("encode configuration: %w", err)
	}
	return append(field(1, []byte("1.11.4")), field(2, field(1, value.MsgPack))...), nil
}

// field is a field of a protocol buffer that holds bytes.
func field(number byte, b []byte) []byte {
	return append(binary.AppendUvarint([]byte{number<<3 | 2}, uint64(len(b))), b...)
}

// raw is a codec for messages that are bytes already.
type raw struct{}

// Marshal implements encoding.Codec.
func (raw) Marshal(v any) ([]byte, error) { return v.([]byte), nil }

// Unmarshal implements encoding.Codec.
func (raw) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = append([]byte(nil), data...)
	return nil
}

// Name implements encoding.Codec.
func (raw) Name() string { return "proto" }

// pretending is a bench whose servers only pretend to run programs: this binary itself is
// the server then.
func (b *bench) pretending() *bench {
	other := *b
	if self, err := os.Executable(); err == nil {
		other.ten = self
	}
	return &other
}

// pretend is the life of such a server, and reports whether this process is to be one: it
// is called as ten is, by node.start.
func pretend(args []string) (code int, is bool) {
	if len(args) == 0 || args[0] != "serve" {
		return 0, false
	}
	flags := flag.NewFlagSet("serve", flag.ExitOnError)
	var f config.Flags
	var port, peer, gossip int
	var join string
	file := flags.String("config", "", "")
	for name, to := range map[string]*string{
		"data-dir": &f.DataDir, "bind": &f.Bind, "node-name": &f.NodeName, "secret-file": &f.SecretFile, "join": &join,
	} {
		flags.StringVar(to, name, "", "")
	}
	for name, to := range map[string]*int{"port": &port, "peer-port": &peer, "gossip-port": &gossip} {
		flags.IntVar(to, name, 0, "")
	}
	_ = flags.Parse(args[1:]) // it exits by itself
	f.Port, f.PeerPort, f.GossipPort = &port, &peer, &gossip
	if join != "" {
		f.Join = []string{join}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	machine := fake.NewMachine(nil)
	defer machine.Close()
	err := server.Run(ctx, server.Options{
		Load: func() (*config.Config, error) {
			return config.Load(config.Options{File: *file, Env: os.Environ(), Flags: f})
		},
		Drivers: map[api.Isolation]driver.Driver{api.IsolationProcess: machine.Driver(api.IsolationProcess)},
		Version: "bench", Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "serve:", err)
		return 1, true
	}
	return 0, true
}
