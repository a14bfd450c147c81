package transport

import (
	"crypto/tls"
	"net"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/consensus/secret"
)

// The certificate of the port for users' programs is of the same CA. Who has it must not
// pass for a node, neither as the one who connects nor as the one who is connected to.
func TestWebCertificateIsNoNode(t *testing.T) {
	w, k := newWorld(), newKeyring(t, newSecret(t))
	a := w.start(t, id(0), k)
	w.start(t, id(1), k)
	reach(t, a, id(1))
	web, err := secret.NewWebCertificates(k, []string{"localhost", "127.0.0.1"}, time.Now).Get()
	if err != nil {
		t.Fatal(err)
	}
	address, _ := w.addressOf(id(0))
	for _, proto := range []string{protoRaft, protoHTTP2, protoHTTP1} {
		c, err := tls.Dial("tcp", address, &tls.Config{
			ServerName: secret.DNSName(id(0)), RootCAs: k.Pool(), NextProtos: []string{proto}, Certificates: []tls.Certificate{*web},
		})
		if err != nil {
			continue
		}
		var verdict [1]byte
		if n, err := c.Read(verdict[:]); err == nil && n == 1 && verdict[0] == verdictWelcome {
			t.Errorf("%s: welcome at the peer port", proto)
		}
		_ = c.Close()
	}

	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{*web}, NextProtos: []string{protoHTTP1, protoHTTP2, protoRaft}})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_ = c.(*tls.Conn).HandshakeContext(t.Context())
			_, _ = c.Write([]byte{verdictWelcome})
			_ = c.Close()
		}
	}()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	w.move(id(7), net.JoinHostPort("127.0.0.1", port))
	if _, _, err := get(t, a.Client(id(7))); err == nil {
		t.Error("a node took the web certificate's owner for a node")
	}
	if _, err := a.DialHTTP1(t.Context(), id(7)); err == nil {
		t.Error("a node took the web certificate's owner for a node")
	}
	_ = ln.Close()
	<-done
}
