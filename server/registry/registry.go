package registry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// protocol is what Terraform and the provider speak with each other.
const protocol = "6.0"

// Config is what a [Registry] is made of. All of it is required.
type Config struct {
	// Program is the file of the program that is handed out, Version its version as
	// [Version] returns it.
	Program, Version string
	// Dir is where the package that is made of it is kept; nothing else is in there.
	Dir string
	// Given is where the operator puts packages for other platforms. It need not exist.
	Given string
	// Key returns the cluster's signing key.
	Key    func(ctx context.Context) (*Key, error)
	Logger *slog.Logger
	Now    func() time.Time
}

// Registry answers what Terraform asks. Its methods may be called from several
// goroutines, their errors are *api.Error or not for clients.
type Registry struct {
	key   func(ctx context.Context) (*Key, error)
	shelf *shelf
}

// New returns a Registry. It makes nothing before it is asked.
func New(cfg Config) (*Registry, error) {
	if cfg.Program == "" || !versionPattern.MatchString(cfg.Version) || cfg.Dir == "" || cfg.Given == "" ||
		cfg.Key == nil || cfg.Logger == nil || cfg.Now == nil {
		return nil, errors.New("new provider registry: Program, Version, Dir, Given, Key, Logger and Now are required")
	}
	return &Registry{key: cfg.Key, shelf: newShelf(cfg)}, nil
}

// Prepare makes the package of the program if it is not there yet, which takes a moment:
// Terraform does not wait for long. The end of ctx ends that.
func (r *Registry) Prepare(ctx context.Context) error {
	_, err := r.shelf.owned(ctx, true)
	return err
}

// Versions lists what there is.
func (r *Registry) Versions(ctx context.Context) (api.RegistryVersions, error) {
	all, err := r.shelf.names(ctx)
	if err != nil {
		return api.RegistryVersions{}, err
	}
	out := api.RegistryVersions{Versions: []api.RegistryVersion{}}
	for _, p := range all {
		if n := len(out.Versions); n == 0 || out.Versions[n-1].Version != p.version {
			out.Versions = append(out.Versions, api.RegistryVersion{Version: p.version, Protocols: []string{protocol}})
		}
		last := &out.Versions[len(out.Versions)-1]
		last.Platforms = append(last.Platforms, api.RegistryPlatform{OS: p.os, Arch: p.arch})
	}
	return out, nil
}

// Package says where a package is and how it is signed.
func (r *Registry) Package(ctx context.Context, version, goos, goarch string) (api.RegistryPackage, error) {
	of, err := r.ofVersion(ctx, version)
	if err != nil {
		return api.RegistryPackage{}, err
	}
	for _, p := range of {
		if p.os != goos || p.arch != goarch {
			continue
		}
		key, err := r.key(ctx)
		if err != nil {
			return api.RegistryPackage{}, err
		}
		checksums := api.RegistryFiles + sumsName(version)
		return api.RegistryPackage{
			Protocols: []string{protocol}, OS: p.os, Arch: p.arch, Filename: p.name(),
			DownloadURL: api.RegistryFiles + p.name(), ShasumsURL: checksums, SignatureURL: checksums + signed,
			Shasum:      p.hex(),
			SigningKeys: api.RegistrySigningKeys{GPG: []api.RegistryKey{{KeyID: key.ID(), Armor: key.Armor()}}},
		}, nil
	}
	return api.RegistryPackage{}, api.Errorf(api.CodeNotFound, "this server has version %s for %s only: "+
		"the operator puts packages for other platforms into the directory provider of its data directory", version, platforms(of))
}

// MirrorVersions is Versions for the network mirror protocol.
func (r *Registry) MirrorVersions(ctx context.Context) (api.MirrorVersions, error) {
	all, err := r.shelf.names(ctx)
	if err != nil {
		return api.MirrorVersions{}, err
	}
	out := api.MirrorVersions{Versions: map[string]api.MirrorVersion{}}
	for _, p := range all {
		out.Versions[p.version] = api.MirrorVersion{}
	}
	return out, nil
}

// MirrorArchives is Package for the network mirror protocol.
func (r *Registry) MirrorArchives(ctx context.Context, version string) (api.MirrorArchives, error) {
	of, err := r.ofVersion(ctx, version)
	if err != nil {
		return api.MirrorArchives{}, err
	}
	out := api.MirrorArchives{Archives: map[string]api.MirrorArchive{}}
	for _, p := range of {
		out.Archives[p.os+"_"+p.arch] = api.MirrorArchive{URL: api.RegistryFiles + p.name(), Hashes: p.hashes()}
	}
	return out, nil
}

// Open opens one of the files that the other methods name. The tag changes with what is in it.
func (r *Registry) Open(ctx context.Context, name string) (content io.ReadSeekCloser, tag string, err error) {
	all, err := r.shelf.all(ctx)
	if err != nil {
		return nil, "", err
	}
	for _, p := range all {
		switch name {
		case p.name():
			f, err := p.open()
			return f, p.hex(), err
		case sumsName(p.version):
			return text(checksums(all, p.version))
		case sumsName(p.version) + signed:
			key, err := r.key(ctx)
			if err != nil {
				return nil, "", err
			}
			signature, err := key.Sign(checksums(all, p.version))
			if err != nil {
				return nil, "", err
			}
			return text(signature)
		}
	}
	return nil, "", api.Errorf(api.CodeNotFound, "no such file; %sVERSION/download/OS/ARCH names those that there are", api.RegistryProviders+"tenement/ten/")
}

func (r *Registry) ofVersion(ctx context.Context, version string) ([]*parcel, error) {
	all, err := r.shelf.all(ctx)
	if err != nil {
		return nil, err
	}
	var out []*parcel
	var known []string
	for _, p := range all {
		known = append(known, p.version)
		if p.version == version {
			out = append(out, p)
		}
	}
	if len(out) == 0 {
		return nil, api.Errorf(api.CodeNotFound, "this server has no such version, but %s", list(known))
	}
	return out, nil
}

func platforms(all []*parcel) string {
	var out []string
	for _, p := range all {
		out = append(out, p.os+"_"+p.arch)
	}
	return list(out)
}

// list names each once; equal ones follow each other.
func list(names []string) string {
	var out []string
	for _, n := range names {
		if len(out) == 0 || out[len(out)-1] != n {
			out = append(out, n)
		}
	}
	return strings.Join(out, ", ")
}

// signed is what the name of a signature ends with.
const signed = ".sig"

func sumsName(version string) string { return ProviderName + "_" + version + "_SHA256SUMS" }

// checksums returns the file SHA256SUMS of a version.
func checksums(all []*parcel, version string) []byte {
	var b bytes.Buffer
	for _, p := range all {
		if p.version == version {
			fmt.Fprintf(&b, "%s  %s\n", p.hex(), p.name())
		}
	}
	return b.Bytes()
}

// text makes a file of what is in memory.
func text(b []byte) (io.ReadSeekCloser, string, error) {
	sum := sha256.Sum256(b)
	return memory{bytes.NewReader(b)}, hex.EncodeToString(sum[:]), nil
}

type memory struct{ *bytes.Reader }

// Close implements io.Closer.
func (memory) Close() error { return nil }
