package server

import (
	"crypto/tls"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus/secret"
	"github.com/tenement-fleet/tenement/server/config"
)

// webNames are the names and addresses of the certificate of the TLS port: all by which
// somebody may reach this server. The ones that were configured must do, the others are
// left out if they can't stand in a certificate.
func webNames(cfg *config.Config, advertised string) []string {
	hostname, _ := os.Hostname() // "" is left out
	var out []string
	add := func(name string) {
		name = strings.ToLower(strings.TrimSuffix(name, "."))
		ip := net.ParseIP(name)
		if ip != nil && ip.IsUnspecified() || ip == nil && secret.CheckWebName(name) != nil || slices.Contains(out, name) {
			return
		}
		out = append(out, name)
	}
	for _, name := range []string{
		"localhost", "127.0.0.1", "::1", hostname, nodeName(cfg), cfg.Bind, advertised, cfg.Domain, "*." + cfg.Domain,
	} {
		add(name)
	}
	for _, name := range cfg.TLSNames {
		add(name)
	}
	return out
}

// openWeb makes the first certificate of the TLS port, so that nothing is started if none
// can be made.
func (n *node) openWeb() error {
	n.web = secret.NewWebCertificates(n.peers.keyring, webNames(n.cfg, n.peers.host), n.now)
	if n.cfg.TLSPort == 0 {
		return nil
	}
	_, err := n.web.Get()
	return err
}

// ownHosts are the names of the certificate that are this server's own and nobody else's.
func (n *node) ownHosts() []string {
	if n.cfg.TLSPort == 0 {
		return nil
	}
	return slices.DeleteFunc(webNames(n.cfg, n.peers.host), func(name string) bool {
		return net.ParseIP(name) != nil || name == n.cfg.Domain || strings.HasSuffix(name, "."+n.cfg.Domain) || strings.HasPrefix(name, "*.")
	})
}

// webTLS is how the TLS port speaks: with the certificates of whichever node serves.
func (s *server) webTLS() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.web.Load().Get() },
	}
}

// tlsStatus tells about the certificate of the TLS port.
func (n *node) tlsStatus() api.TLSStatus {
	if n.cfg.TLSPort == 0 {
		return api.TLSStatus{}
	}
	out := api.TLSStatus{Enabled: true, Domain: n.cfg.Domain}
	cert, err := n.web.Get()
	if err != nil { // it was made once before
		n.log.Error("the TLS port has no certificate", "error", err)
		return out
	}
	names := slices.Clone(cert.Leaf.DNSNames)
	for _, ip := range cert.Leaf.IPAddresses {
		names = append(names, ip.String())
	}
	out.Certificates = []api.TLSCertificate{{Names: names, Issuer: cert.Leaf.Issuer.CommonName, NotAfter: cert.Leaf.NotAfter}}
	return out
}
