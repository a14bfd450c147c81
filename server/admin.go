package server

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/tenement-fleet/tenement/server/auth"
)

// adminServer serves the local admin socket, whose peers the kernel vouches for.
type adminServer struct{ http.Server }

func newAdminServer(h http.Handler, log *slog.Logger) *adminServer {
	return &adminServer{http.Server{
		Handler:           h,
		ConnContext:       auth.ConnContext,
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}}
}

// Serve accepts connections from ln until Drain or Close, and returns nil then.
func (s *adminServer) Serve(ln net.Listener) error {
	if err := s.Server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Drain closes the listener and waits for the requests under way.
func (s *adminServer) Drain(ctx context.Context) error { return s.Shutdown(ctx) }
