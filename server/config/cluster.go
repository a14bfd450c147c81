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

// nodeSuffix is what the names end with by which servers know each other.
const nodeSuffix = ".node.tenement"

// checkPorts refuses one port for two things.
func (l *loader) checkPorts() {
	c := l.cfg
	if p := c.Cluster.PeerPort; p != 0 && (p == c.Port || p == c.Cluster.GossipPort) {
		l.addSetting("peer_port", strconv.Itoa(p), "a port that is neither port nor gossip_port", "")
	}
	if p := c.Cluster.GossipPort; p != 0 && p == c.Port {
		l.addSetting("gossip_port", strconv.Itoa(p), "a port that is not port", "")
	}
	if p := c.TLSPort; p != 0 && (p == c.Port || p == c.Cluster.PeerPort || p == c.Cluster.GossipPort) {
		l.addSetting("tls_port", strconv.Itoa(p), "a port that is neither port, peer_port nor gossip_port", "")
	}
	var names []string
	for _, given := range c.TLSNames {
		name := strings.ToLower(given)
		if net.ParseIP(name) == nil && !validDomain(strings.TrimPrefix(name, "*.")) || strings.HasSuffix("."+name, nodeSuffix) {
			l.addSetting("tls_names", quoted(given), `host names such as "ten.example.com", addresses, or "*." before a name`, "")
		}
		names = append(names, name)
	}
	c.TLSNames = names
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
