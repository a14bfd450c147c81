package main

import (
	"context"

	"github.com/tenement-fleet/tenement/api"
)

// hooks is what only the server's side of the binary can do. A hook that is nil is not
// available on this system.
type hooks struct {
	// Serve runs the server until ctx ends; [signalOf] tells which signal ended it. If
	// tell is not nil, it is called once the server answers requests.
	Serve func(ctx context.Context, o serveOptions, tell func(serving)) error
	// DataDir returns the data directory that Serve would use with this configuration
	// file ("": the default place) when neither flag nor environment names one.
	DataDir func(config string) (string, error)
	// Capabilities tells what the machine can do, beyond what doctor finds by itself:
	// the isolation levels.
	Capabilities func(ctx context.Context) []api.Capability
	// Sample returns a commented tenement.toml. An empty command leaves an example there.
	Sample func(name, command string) []byte
	// Config returns the configuration that Serve would run with: as TOML, and as a value
	// for --json.
	Config func(o serveOptions) (text []byte, value any, err error)
}

// serveOptions is what the flags of `ten serve` and `ten config` say. Zero fields were not given.
type serveOptions struct {
	Config  string // path of tenement.toml
	DataDir string
	Bind    string // address to listen on
	Port    *int   // 0: any free port
	Domain  string
	TLS     bool
	Email   string // of the ACME account
	Staging bool   // use the ACME staging server

	Join            []string // peer ports of servers of the cluster
	SecretFile      string
	TokenFile       string
	BootstrapExpect *int
	NodeName        string
	PeerPort        *int // 0: any free port
	GossipPort      *int // 0: any free port
	Advertise       string

	Version string // of this binary
}
