package registry

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// parcel is one package as it lies on the disk.
type parcel struct {
	version, os, arch string
	path              string
	info              fs.FileInfo // when it was summed up
	sums
}

func (p *parcel) name() string { return PackageName(p.version, p.os, p.arch) }

// turn is taken by one at a time. Whoever waits for it waits no longer than he wants to.
type turn chan struct{}

func (t turn) take(ctx context.Context) (release func(), err error) {
	select {
	case t <- struct{}{}:
		return func() { <-t }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// shelf holds the packages of a server: the one of the running program, which is made
// when it is first asked for, and those that the operator put there.
type shelf struct {
	cfg Config

	making turn
	own    *parcel

	looking turn
	given   map[string]*parcel // by name
	refused map[string]fs.FileInfo
	looked  time.Time
}

func newShelf(cfg Config) *shelf {
	return &shelf{
		cfg: cfg, making: make(turn, 1), looking: make(turn, 1),
		given: map[string]*parcel{}, refused: map[string]fs.FileInfo{},
	}
}

// names returns every package, without what it is told by: that does not wait for the one
// of the running program to be made.
func (s *shelf) names(ctx context.Context) ([]*parcel, error) {
	return s.with(ctx, s.blank())
}

// all returns every package, ordered by version, system and architecture. Whoever is the
// first to ask has his own made, and the end of his patience does not end that: the next
// one, who may be he again, finds it done.
func (s *shelf) all(ctx context.Context) ([]*parcel, error) {
	own, err := s.owned(ctx, false)
	if err != nil {
		return nil, err
	}
	return s.with(ctx, own)
}

// owned returns the program's own package. The end of ctx ends the wait for it, and the
// making only if that is wanted.
func (s *shelf) owned(ctx context.Context, end bool) (*parcel, error) {
	release, err := s.making.take(ctx)
	if err != nil {
		return nil, err
	}
	if !end {
		ctx = context.WithoutCancel(ctx)
	}
	err = s.makeOwn(ctx)
	own := s.own
	release()
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return nil, api.Errorf(api.CodeDiskFull, "make the provider's package: no space is left in %s: free some, and ask again", s.cfg.Dir)
	case err != nil:
		return nil, fmt.Errorf("make the provider's package: %w", err)
	default:
		return own, nil
	}
}

// with returns the operator's packages and the program's own.
func (s *shelf) with(ctx context.Context, own *parcel) ([]*parcel, error) {
	release, err := s.looking.take(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	s.look()
	out := []*parcel{own}
	for name, p := range s.given {
		if name != own.name() {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b *parcel) int {
		if c := compareVersions(a.version, b.version); c != 0 {
			return c
		}
		return strings.Compare(a.name(), b.name())
	})
	return out, nil
}

// blank is the program's own package before it is made.
func (s *shelf) blank() *parcel {
	return &parcel{version: s.cfg.Version, os: runtime.GOOS, arch: runtime.GOARCH}
}

// makeOwn makes the package of the running program, or finds the one that was made of it
// before. What was made of others is removed.
func (s *shelf) makeOwn(ctx context.Context) error {
	if s.own != nil {
		if info, err := os.Stat(s.own.path); err == nil && same(info, s.own.info) {
			return nil
		}
		s.own = nil // somebody removed it
	}
	program, err := os.Open(s.cfg.Program)
	if err != nil {
		return err
	}
	defer program.Close() //nolint:errcheck // was only read
	content := sha256.New()
	if _, err := io.Copy(content, untilDone{ctx, program}); err != nil {
		return err
	}
	own := s.blank()
	own.h1 = h1(map[string][sha256.Size]byte{programName(own.version, own.os): sum(content)})
	prefix := fmt.Sprintf("%s_%x_", own.version, sum(content))
	if !s.findOwn(own, prefix) {
		if _, err := program.Seek(0, io.SeekStart); err != nil {
			return err
		}
		if err := s.packOwn(own, untilDone{ctx, program}, prefix); err != nil {
			return err
		}
	}
	s.own = own
	s.tidy()
	return nil
}

// untilDone is a reader that ends with a context.
type untilDone struct {
	ctx context.Context
	io.Reader
}

// Read implements io.Reader.
func (r untilDone) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}

// findOwn finds a package that was made before. Its name says what it must hold.
func (s *shelf) findOwn(own *parcel, prefix string) bool {
	found, _ := filepath.Glob(filepath.Join(s.cfg.Dir, prefix+"*.zip")) // fails for a bad pattern only
	for _, path := range found {
		want, err := hex.DecodeString(strings.TrimSuffix(strings.TrimPrefix(filepath.Base(path), prefix), ".zip"))
		if err != nil {
			continue
		}
		f, err := os.Open(path)
		if err != nil {
			continue
		}
		archive := sha256.New()
		_, err = io.Copy(archive, f)
		info, statErr := f.Stat()
		_ = f.Close() // was only read
		if got := sum(archive); err == nil && statErr == nil && string(got[:]) == string(want) {
			own.path, own.info, own.archive = path, info, got
			return true
		}
	}
	return false
}

// packOwn makes the package. Under its name there is never a part of it, whatever happens.
func (s *shelf) packOwn(own *parcel, program io.Reader, prefix string) (err error) {
	if err := os.MkdirAll(s.cfg.Dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(s.cfg.Dir, "new-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	made, err := pack(f, program, own.version, own.os)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if made.h1 != own.h1 {
		return errors.New("the program changed while it was read")
	}
	own.sums, own.path = made, filepath.Join(s.cfg.Dir, prefix+made.hex()+".zip")
	if err := os.Rename(f.Name(), own.path); err != nil {
		return err
	}
	if own.info, err = os.Stat(own.path); err == nil {
		s.cfg.Logger.Info("made the package of the Terraform provider", "version", own.version, "size", own.info.Size(), "file", own.path)
	}
	return err
}

// tidy removes what is in the directory besides the package.
func (s *shelf) tidy() {
	entries, err := os.ReadDir(s.cfg.Dir)
	for _, e := range entries {
		if path := filepath.Join(s.cfg.Dir, e.Name()); path != s.own.path {
			err = errors.Join(err, os.Remove(path))
		}
	}
	if err != nil {
		s.cfg.Logger.Warn("old packages of the provider are still there", "directory", s.cfg.Dir, "error", err)
	}
}

// namePattern is what the operator's packages are called; everything else is not served.
var namePattern = regexp.MustCompile(`^` + ProviderName + `_(` + semantic + `)_([a-z0-9]{1,20})_([a-z0-9]{1,20})\.zip$`)

const (
	// lookAgain is how old what is known of the operator's packages may be.
	lookAgain = time.Second
	maxGiven  = 200
)

// look finds out what the operator put there.
func (s *shelf) look() {
	if age := s.cfg.Now().Sub(s.looked); age >= 0 && age < lookAgain {
		return
	}
	s.looked = s.cfg.Now()
	entries, err := os.ReadDir(s.cfg.Given)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.cfg.Logger.Warn("the directory of the provider's packages can't be read", "error", err)
	}
	given, refused := map[string]*parcel{}, map[string]fs.FileInfo{}
	for _, e := range entries {
		m := namePattern.FindStringSubmatch(e.Name())
		info, err := e.Info()
		if m == nil || err != nil || !info.Mode().IsRegular() || len(given) == maxGiven {
			continue
		}
		if known := s.given[e.Name()]; known != nil && same(known.info, info) {
			given[e.Name()] = known
			continue
		}
		if before := s.refused[e.Name()]; before != nil && same(before, info) {
			refused[e.Name()] = before
			continue
		}
		p := &parcel{version: m[1], os: m[2], arch: m[3], path: filepath.Join(s.cfg.Given, e.Name())}
		if err := p.read(); err != nil {
			refused[e.Name()] = info
			s.cfg.Logger.Warn("a package of the provider is not served", "file", p.path, "error", err)
			continue
		}
		given[e.Name()] = p
	}
	s.given, s.refused = given, refused
}

// read sums up what is there.
func (p *parcel) read() error {
	f, info, err := openRegular(p.path)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // was only read
	p.info = info
	p.sums, err = unpack(f, info.Size())
	return err
}

// open opens the package, if it is still what was summed up.
func (p *parcel) open() (*os.File, error) {
	f, info, err := openRegular(p.path)
	if err != nil {
		return nil, fmt.Errorf("open package: %w", err)
	}
	if !same(info, p.info) {
		_ = f.Close() // was not even read
		return nil, &api.Error{Code: api.CodeUnavailable, Message: "the package is being replaced", RetryAfter: api.Seconds(1)}
	}
	return f, nil
}

// openRegular opens a file that is neither a link nor anything else.
func openRegular(path string) (*os.File, fs.FileInfo, error) {
	before, err := os.Lstat(path)
	if err != nil {
		return nil, nil, err
	}
	if !before.Mode().IsRegular() {
		return nil, nil, errors.New("it is no regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !os.SameFile(before, info) {
		err = errors.New("it is being replaced")
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, info, nil
}

func same(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}
