package registry

import (
	"archive/zip"
	"compress/flate"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
)

// ProviderName is what Terraform calls the program of the provider.
const ProviderName = "terraform-provider-ten"

// maxProgram bounds what is read of a program in a package.
const maxProgram = 1 << 30

// sums are the two ways in which Terraform tells a package: by the archive's bytes, as
// "zh:" and in SHA256SUMS, and by what is in it, as "h1:".
type sums struct {
	archive [sha256.Size]byte
	h1      string
}

func (s sums) hashes() []string { return []string{s.h1, "zh:" + s.hex()} }

func (s sums) hex() string { return hex.EncodeToString(s.archive[:]) }

// PackageName returns the file name of the package for a version and platform, in Go's words.
func PackageName(version, goos, goarch string) string {
	return fmt.Sprintf("%s_%s_%s_%s.zip", ProviderName, version, goos, goarch)
}

// programName returns the name of the program within a package.
func programName(version, goos string) string {
	name := ProviderName + "_v" + version
	if goos == "windows" {
		name += ".exe"
	}
	return name
}

// Pack writes the package that holds a program, the same bytes each time.
func Pack(w io.Writer, program io.Reader, version, goos string) error {
	_, err := pack(w, program, version, goos)
	return err
}

// pack is Pack, and returns what the package is told by.
func pack(w io.Writer, program io.Reader, version, goos string) (sums, error) {
	archive, content := sha256.New(), sha256.New()
	z := zip.NewWriter(io.MultiWriter(w, archive))
	// Most of what compression saves for a tenth of the time.
	z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestSpeed) })
	header := &zip.FileHeader{
		Name: programName(version, goos), Method: zip.Deflate,
		Modified: time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	header.SetMode(0o755)
	f, err := z.CreateHeader(header)
	if err == nil {
		_, err = io.Copy(io.MultiWriter(f, content), program)
	}
	if err := errors.Join(err, z.Close()); err != nil {
		return sums{}, err
	}
	return sums{archive: sum(archive), h1: h1(map[string][sha256.Size]byte{header.Name: sum(content)})}, nil
}

// unpack reads what a package is told by, and checks that it is one.
func unpack(f io.ReaderAt, size int64) (sums, error) {
	archive := sha256.New()
	if _, err := io.Copy(archive, io.NewSectionReader(f, 0, size)); err != nil {
		return sums{}, err
	}
	z, err := zip.NewReader(f, size)
	if err != nil {
		return sums{}, err
	}
	files, program := map[string][sha256.Size]byte{}, false
	for _, entry := range z.File {
		if entry.FileInfo().IsDir() {
			continue
		}
		if !fs.ValidPath(entry.Name) || !entry.Mode().IsRegular() {
			return sums{}, fmt.Errorf("it holds %q, which is no file in it", entry.Name)
		}
		if files[entry.Name], err = sumOf(entry); err != nil {
			return sums{}, fmt.Errorf("read %s in it: %w", entry.Name, err)
		}
		program = program || path.Dir(entry.Name) == "." && strings.HasPrefix(entry.Name, ProviderName)
	}
	if !program {
		return sums{}, fmt.Errorf("it holds no %s", ProviderName)
	}
	return sums{archive: sum(archive), h1: h1(files)}, nil
}

func sumOf(entry *zip.File) ([sha256.Size]byte, error) {
	r, err := entry.Open()
	if err != nil {
		return [sha256.Size]byte{}, err
	}
	defer r.Close() //nolint:errcheck // was only read
	content := sha256.New()
	n, err := io.Copy(content, io.LimitReader(r, maxProgram+1))
	if err == nil && n > maxProgram {
		err = errors.New("it is too large")
	}
	return sum(content), err
}

func sum(h hash.Hash) [sha256.Size]byte { return [sha256.Size]byte(h.Sum(nil)) }

// h1 is Go's directory hash, which Terraform has taken over.
func h1(files map[string][sha256.Size]byte) string {
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	all := sha256.New()
	for _, name := range names {
		fmt.Fprintf(all, "%x  %s\n", files[name], name)
	}
	return "h1:" + base64.StdEncoding.EncodeToString(all.Sum(nil))
}
