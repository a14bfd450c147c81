package main

import (
	"context"
	"io"
	"time"

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

	// Secret returns the secret of the cluster that the server with this data directory is of.
	Secret func(dataDir string) (string, error)
	// NewSecret makes the secret of a cluster that is yet to be.
	NewSecret func() (string, error)
	// LongToken returns a join token that holds the cluster's secret, and names the
	// servers with these peer addresses.
	LongToken func(dataDir string, addresses []string) (string, error)
	// Recover makes a stopped server the only member of its cluster; in a preview it only
	// says what that would do.
	Recover func(dataDir string, preview bool) (*recovery, error)
	// InspectSnapshot reads a snapshot, all of it, and checks it.
	InspectSnapshot func(r io.Reader) (*snapshotInfo, error)
}

// recovery is what `ten cluster recover` does, or would do.
type recovery struct {
	Node      string           `json:"node"`
	ClusterID string           `json:"cluster_id"`
	Members   []recoveryMember `json:"members"`
	Index     uint64           `json:"index"`            // of the state that is kept
	Backup    string           `json:"backup,omitempty"` // of what was there before; empty in a preview
}

// recoveryMember is a server before and after a recovery.
type recoveryMember struct {
	ID      string `json:"id"`
	Address string `json:"address"`
	Voter   bool   `json:"voter"`
	After   string `json:"after"` // "votes" or "gone"
}

// snapshotInfo is what a snapshot holds.
type snapshotInfo struct {
	Version   int       `json:"version"`
	ClusterID string    `json:"cluster_id"`
	Index     uint64    `json:"index"`
	Node      string    `json:"node"` // the id of the node that wrote it
	CreatedAt time.Time `json:"created_at,omitzero"`
	Services  int       `json:"services"`
	Instances int       `json:"instances"`
	Fleets    int       `json:"fleets"`
	Nodes     int       `json:"nodes"`
	Tokens    int       `json:"tokens"`
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

	TLSPort  *int     // of the TLS port; 0: none
	TLSNames []string // of its certificate

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
