package httpapi

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// mediaPEM is the type of certificates.
const mediaPEM = "application/x-pem-file"

// Provider is the Terraform provider as packages, which may be made when they are first
// asked for. Errors are *api.Error, or not for clients.
type Provider interface {
	Versions(ctx context.Context) (api.RegistryVersions, error)
	Package(ctx context.Context, version, goos, goarch string) (api.RegistryPackage, error)
	MirrorVersions(ctx context.Context) (api.MirrorVersions, error)
	MirrorArchives(ctx context.Context, version string) (api.MirrorArchives, error)
	// Open opens a file by the name that the others tell. The tag changes with what is in it.
	Open(ctx context.Context, name string) (content io.ReadSeekCloser, tag string, err error)
}

// noProvider is the Provider of a server that has none.
type noProvider struct{}

var errNoProvider = &api.Error{Code: api.CodeNotFound, Message: "this server hands out no Terraform provider"}

func (noProvider) Versions(context.Context) (api.RegistryVersions, error) {
	return api.RegistryVersions{}, errNoProvider
}

func (noProvider) Package(context.Context, string, string, string) (api.RegistryPackage, error) {
	return api.RegistryPackage{}, errNoProvider
}

func (noProvider) MirrorVersions(context.Context) (api.MirrorVersions, error) {
	return api.MirrorVersions{}, errNoProvider
}

func (noProvider) MirrorArchives(context.Context, string) (api.MirrorArchives, error) {
	return api.MirrorArchives{}, errNoProvider
}

func (noProvider) Open(context.Context, string) (io.ReadSeekCloser, string, error) {
	return nil, "", errNoProvider
}

func (s *Server) discoverRegistry(*call) (api.RegistryServices, error) {
	return api.RegistryServices{Providers: api.RegistryProviders}, nil
}

func (s *Server) providerVersions(c *call) (api.RegistryVersions, error) {
	return s.cfg.Provider.Versions(c.ctx)
}

func (s *Server) providerPackage(c *call) (api.RegistryPackage, error) {
	return s.cfg.Provider.Package(c.ctx, c.path[0], c.path[1], c.path[2])
}

func (s *Server) mirrorVersions(c *call) (api.MirrorVersions, error) {
	return s.cfg.Provider.MirrorVersions(c.ctx)
}

func (s *Server) mirrorArchives(c *call) (api.MirrorArchives, error) {
	version, ok := strings.CutSuffix(c.path[1], ".json")
	if !ok {
		return api.MirrorArchives{}, api.Errorf(api.CodeNotFound, "no such document: want VERSION.json")
	}
	return s.cfg.Provider.MirrorArchives(c.ctx, version)
}

// serveProviderFile sends a file, or the part of it that the client has not got yet.
func (s *Server) serveProviderFile(c *call) error {
	content, tag, err := s.cfg.Provider.Open(c.ctx, c.name)
	if err != nil {
		return err
	}
	defer func() {
		if err := content.Close(); err != nil {
			s.cfg.Logger.WarnContext(c.ctx, "close file of the provider", "error", err)
		}
	}()
	h := c.w.Header()
	h.Set("Content-Type", mediaBinary)
	h.Set("Cache-Control", "no-cache") // keep it, and ask whether it still is the same
	h.Set("ETag", strconv.Quote(tag))
	w := newDeadlineWriter(c.w)
	http.ServeContent(steadyWriter{c.w, w}, c.r, "", time.Time{}, content)
	if c.ctx.Err() != nil {
		return nil
	}
	w.done()
	return nil
}

// steadyWriter sends an answer to a client that may take any time, as long as it goes on
// taking.
type steadyWriter struct {
	http.ResponseWriter
	w io.Writer
}

// Write implements io.Writer.
func (s steadyWriter) Write(p []byte) (int, error) { return s.w.Write(p) }

// serveCA sends what a client has to trust before it can use the TLS port: so anybody may
// have it.
func (s *Server) serveCA(c *call) error {
	ca := s.cfg.CA()
	if len(ca) == 0 {
		return errAlone
	}
	h := c.w.Header()
	h.Set("Content-Type", mediaPEM)
	h.Set("Content-Length", strconv.Itoa(len(ca)))
	c.w.WriteHeader(http.StatusOK)
	_, _ = c.w.Write(ca) // a client that left can't be told
	return nil
}
