package main

import (
	"github.com/spf13/cobra"
)

// portFlags holds the flags of which 0 means something else than not to be given.
type portFlags struct{ http, tls, peer, gossip, expect int }

func (o *serveOptions) flags(cmd *cobra.Command, n *portFlags) {
	f := cmd.Flags()
	f.StringVar(&o.Config, "config", "", "configuration `file` (TENEMENT_CONFIG; default: tenement.toml if there is one)")
	f.StringVar(&o.Bind, "bind", "", "`address` to listen on (TENEMENT_BIND; default: all)")
	f.IntVar(&n.http, "port", 8080, "HTTP port, 0 for any that is free (TENEMENT_PORT)")
	f.StringVar(&o.Domain, "domain", "", "`domain` under which the services are reached (TENEMENT_DOMAIN; default: localhost)")
	f.IntVar(&n.tls, "tls-port", 0, "`port` that serves the same over TLS, with a certificate of the cluster's CA; 0 for none (TENEMENT_TLS_PORT)")
	f.StringSliceVar(&o.TLSNames, "tls-name", nil, "further `names` and addresses of that certificate (TENEMENT_TLS_NAMES)")
	f.BoolVar(&o.TLS, "tls", false, "serve HTTPS: not in this version, which refuses it")
	f.StringVar(&o.Email, "email", "", "`address` for the ACME account, for --tls")
	f.BoolVar(&o.Staging, "staging", false, "use the ACME staging server, for --tls")

	f.StringSliceVar(&o.Join, "join", nil, "`addresses` of servers of the cluster to join, host or host:peer-port (TENEMENT_JOIN)")
	f.StringVar(&o.SecretFile, "secret-file", "", "`file` with the cluster's secret, which 'ten secret' prints (TENEMENT_SECRET_FILE)")
	f.StringVar(&o.TokenFile, "token-file", "", "`file` with a join token, which 'ten join-token' makes (TENEMENT_TOKEN_FILE)")
	f.IntVar(&n.expect, "bootstrap-expect", 0, "found a new cluster together once this `number` of servers have met (TENEMENT_BOOTSTRAP_EXPECT)")
	f.StringVar(&o.NodeName, "node-name", "", "`name` of this server in the cluster (TENEMENT_NODE_NAME; default: the host's)")
	f.IntVar(&n.peer, "peer-port", 7947, "port for the other servers, 0 for any that is free (TENEMENT_PEER_PORT)")
	f.IntVar(&n.gossip, "gossip-port", 7946, "TCP and UDP port for gossip, 0 for any that is free (TENEMENT_GOSSIP_PORT)")
	f.StringVar(&o.Advertise, "advertise", "", "`host` at which the other servers reach this one (TENEMENT_ADVERTISE; default: found out)")

	must(cmd.MarkFlagFilename("config", "toml"))
	must(cmd.MarkFlagFilename("secret-file"))
	must(cmd.MarkFlagFilename("token-file"))
}

// finish adds what other flags and the program itself say.
func (o *serveOptions) finish(a *app, cmd *cobra.Command, n portFlags) {
	o.DataDir, o.Version = a.dataDir, version
	given := func(flag string, value int) *int {
		if !cmd.Flags().Changed(flag) {
			return nil
		}
		return &value
	}
	o.Port = given("port", n.http)
	o.TLSPort = given("tls-port", n.tls)
	o.PeerPort = given("peer-port", n.peer)
	o.GossipPort = given("gossip-port", n.gossip)
	o.BootstrapExpect = given("bootstrap-expect", n.expect)
}
