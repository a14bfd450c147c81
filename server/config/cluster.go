package config

import (
	"net"
	"strconv"
	"strings"

	"github.com/tenement-fleet/tenement/api"
)

// checkCluster holds [cluster] against its rules and completes the addresses to join.
func (l *loader) checkCluster() {
	c := &l.cfg.Cluster
	if c.NodeName != "" && !api.ValidName(c.NodeName) {
		l.addSetting("node_name", quoted(c.NodeName), wantName, "")
	}
	join := make([]string, 0, len(c.Join))
	for _, text := range c.Join {
		address, ok := peerAddress(text)
		if !ok {
			l.addSetting("join", quoted(text), "ADDRESS or ADDRESS:PEER_PORT, such as 10.0.0.1 or node1.example.com:7947", "")
			continue
		}
		join = append(join, address)
	}
	if c.Join = join; len(join) == 0 {
		c.Join = nil
	}
	if c.SecretFile != "" && c.TokenFile != "" {
		l.addSetting("token_file", quoted(c.TokenFile), "either secret_file or token_file", "a join token brings the secret with it")
	}
	if c.BootstrapExpect > 1 && len(c.Join) == 0 && c.TokenFile == "" {
		l.addSetting("bootstrap_expect", strconv.Itoa(c.BootstrapExpect), "join, too: where the other servers are", "list all of them; a server may list itself")
	}
	if c.Advertise != "" && strings.ContainsAny(c.Advertise, " /") {
		l.addSetting("advertise", quoted(c.Advertise), "an address or host name, without a port", "")
	}
	l.checkPorts()
}

// checkPorts refuses one port for two things.
func (l *loader) checkPorts() {
	c := l.cfg
	if p := c.Cluster.PeerPort; p != 0 && (p == c.Port || p == c.Cluster.GossipPort) {
		l.addSetting("peer_port", strconv.Itoa(p), "a port that is neither port nor gossip_port", "")
	}
	if p := c.Cluster.GossipPort; p != 0 && p == c.Port {
		l.addSetting("gossip_port", strconv.Itoa(p), "a port that is not port", "")
	}
}

// peerAddress completes an address by the default port.
func peerAddress(text string) (string, bool) {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		host, port = strings.Trim(text, "[]"), strconv.Itoa(DefaultPeerPort)
		if strings.Contains(host, ":") && net.ParseIP(host) == nil {
			return "", false
		}
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || host == "" || strings.ContainsAny(host, " /@") {
		return "", false
	}
	return net.JoinHostPort(host, port), true
}
