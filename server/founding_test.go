package server

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/tenement-fleet/tenement/consensus/transport"
	"github.com/tenement-fleet/tenement/server/config"
)

// TestAdviseToWait: to wait for others is no news, but a secret that they do not accept
// stays the wrong one, and only the file that this server keeps it in decides.
func TestAdviseToWait(t *testing.T) {
	p := &peers{peersConfig: peersConfig{Config: &config.Config{DataDir: "/data"}}}
	if level, advice := p.advise(errors.New("1 of 3 servers are here")); level != slog.LevelInfo || advice != "" {
		t.Errorf("others are missing: %v %q, want INFO and nothing to do", level, advice)
	}
	refused := &transport.Error{Address: "10.0.0.1:7947", Kind: transport.ErrCertificate, Err: errors.New("x509"), Dial: true}
	level, advice := p.advise(fmt.Errorf("10.0.0.1:7947: %w", refused))
	if level != slog.LevelWarn || !strings.Contains(advice, SecretPath("/data")) {
		t.Errorf("another secret: %v %q, want WARN and which file to remove", level, advice)
	}
}
