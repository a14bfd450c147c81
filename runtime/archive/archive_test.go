package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func openRoot(t testing.TB, dir string) *os.Root {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	return root
}

// carry sends what is in from to a new directory.
func carry(t testing.TB, from string) string {
	t.Helper()
	to := t.TempDir()
	in, out := io.Pipe()
	go func() { _ = out.CloseWithError(Write(context.Background(), out, openRoot(t, from))) }()
	if err := Extract(t.Context(), in, openRoot(t, to), nil); err != nil {
		t.Fatal(err)
	}
	return to
}

// describe lists a tree with everything that is to be the same on the other side.
func describe(t testing.TB, dir string) string {
	t.Helper()
	var out strings.Builder
	root := openRoot(t, dir)
	err := fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.Type() == fs.ModeNamedPipe {
			return nil
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		fmt.Fprintf(&out, "%q %s", name, fi.Mode())
		switch {
		case fi.Mode().IsRegular():
			b, err := root.ReadFile(name)
			if err != nil {
				return err
			}
			fmt.Fprintf(&out, " %q %d %s", b, fi.Sys().(*syscall.Stat_t).Nlink, fi.ModTime().UTC())
		case d.IsDir():
			fmt.Fprintf(&out, " %s", fi.ModTime().UTC())
		default:
			target, err := root.Readlink(name)
			if err != nil {
				return err
			}
			fmt.Fprintf(&out, " → %q", target)
		}
		out.WriteByte('\n')
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// TestCarry: what arrives is what was sent, but for what means nothing elsewhere.
func TestCarry(t *testing.T) {
	from := t.TempDir()
	at := func(name ...string) string { return filepath.Join(append([]string{from}, name...)...) }
	long := strings.Repeat("x", 200)
	must(t,
		os.MkdirAll(at("dir", long, long), 0o755),
		os.WriteFile(at("dir", long, long, "näme with \n"), []byte("deep"), 0o640),
		os.WriteFile(at("empty"), nil, 0o400),
		os.WriteFile(at("run"), []byte("#!"), 0o755),
		os.Link(at("run"), at("dir", "again")),
		os.Symlink("/etc/passwd", at("absolute")),
		os.Symlink("../../..", at("dir", "up")),
		os.Symlink("nowhere", at("dangling")),
		os.Chtimes(at("empty"), time.Time{}, time.Date(2001, 2, 3, 4, 5, 6, 789, time.UTC)),
		os.Chtimes(at("dir"), time.Time{}, time.Date(2002, 2, 3, 4, 5, 6, 7, time.UTC)),
		syscall.Mkfifo(at("fifo"), 0o600), // stays
		os.Mkdir(at("locked"), 0o700),
		os.WriteFile(at("locked", "f"), []byte("f"), 0o600),
		os.Chmod(at("locked"), 0o500),
		os.Chmod(from, 0o750),
	)
	t.Cleanup(func() { _ = os.Chmod(at("locked"), 0o700) })
	want := describe(t, from)
	to := carry(t, from)
	t.Cleanup(func() { _ = os.Chmod(filepath.Join(to, "locked"), 0o700) })
	if got := describe(t, to); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestSetID: bits that would lend rights don't arrive.
func TestSetID(t *testing.T) {
	from := t.TempDir()
	must(t, os.WriteFile(filepath.Join(from, "f"), nil, 0o600), os.Chmod(filepath.Join(from, "f"), 0o755|os.ModeSetuid|os.ModeSetgid))
	fi, err := os.Stat(filepath.Join(carry(t, from), "f"))
	if err != nil || fi.Mode() != 0o755 {
		t.Errorf("arrived as %v, %v", fi.Mode(), err)
	}
}

// TestSparse: large files of little content take little room, and little memory, at
// either end.
func TestSparse(t *testing.T) {
	from := t.TempDir()
	const size = 128 << 20
	for i := range 3 {
		f, err := os.Create(filepath.Join(from, fmt.Sprint("f", i)))
		must(t, err)
		_, err = f.WriteAt([]byte("x"), size/2)
		must(t, err, f.Truncate(size), f.Close())
	}
	to := carry(t, from)
	for i := range 3 {
		fi, err := os.Stat(filepath.Join(to, fmt.Sprint("f", i)))
		must(t, err)
		if used := fi.Sys().(*syscall.Stat_t).Blocks * 512; fi.Size() != size || used > 1<<20 {
			t.Errorf("%d bytes that take %d", fi.Size(), used)
		}
		f, err := os.Open(filepath.Join(to, fmt.Sprint("f", i)))
		must(t, err)
		b := make([]byte, 3)
		_, err = f.ReadAt(b, size/2-1)
		must(t, err, f.Close())
		if string(b) != "\x00x\x00" {
			t.Errorf("contents %q", b)
		}
	}
}

// TestRoom: what does not fit ends where the room ends.
func TestRoom(t *testing.T) {
	from := t.TempDir()
	must(t, os.WriteFile(filepath.Join(from, "f"), bytes.Repeat([]byte("x"), 4*roomEvery), 0o600))
	var b bytes.Buffer
	must(t, Write(t.Context(), &b, openRoot(t, from)))
	full := errors.New("full")
	to := t.TempDir()
	asked := 0
	err := Extract(t.Context(), &b, openRoot(t, to), func() error {
		if asked++; asked == 2 {
			return full
		}
		return nil
	})
	if fi, _ := os.Stat(filepath.Join(to, "f")); !errors.Is(err, full) || fi.Size() > 2*roomEvery {
		t.Errorf("Extract = %v with %d bytes written", err, fi.Size())
	}
}

// TestTruncated: a part of an archive is never taken for the whole.
func TestTruncated(t *testing.T) {
	from := t.TempDir()
	must(t, os.WriteFile(filepath.Join(from, "f"), bytes.Repeat([]byte("x"), 3000), 0o600), os.Mkdir(filepath.Join(from, "g"), 0o700))
	var b bytes.Buffer
	must(t, Write(t.Context(), &b, openRoot(t, from)))
	cut := errors.New("cut")
	for n := 0; n < b.Len(); n += 100 {
		r := io.MultiReader(bytes.NewReader(b.Bytes()[:n]), &failing{cut})
		if err := Extract(t.Context(), r, openRoot(t, t.TempDir()), nil); !errors.Is(err, cut) {
			t.Fatalf("Extract of %d of %d bytes = %v", n, b.Len(), err)
		}
	}
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }

// TestCancelled ends at once.
func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	cancel(cause)
	if err := Write(ctx, io.Discard, openRoot(t, t.TempDir())); !errors.Is(err, cause) {
		t.Errorf("Write = %v", err)
	}
	if err := Extract(ctx, strings.NewReader(""), openRoot(t, t.TempDir()), nil); !errors.Is(err, cause) {
		t.Errorf("Extract = %v", err)
	}
}

func archiveOf(t testing.TB, headers ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		if h.Typeflag == tar.TypeReg {
			h.Size = 4
		}
		h.Uid, h.Gid = os.Getuid(), os.Getgid()
		if err := w.WriteHeader(&h); err != nil {
			t.Skip(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := w.Write([]byte("evil")); err != nil {
				t.Fatal(err)
			}
		}
	}
	must(t, w.Close())
	return b.Bytes()
}

// hostile is a directory with a secret beside the one that archives are extracted to.
type hostile struct{ top, in string }

func newHostile(t testing.TB) hostile {
	t.Helper()
	h := hostile{top: t.TempDir()}
	h.in = filepath.Join(h.top, "in")
	must(t, os.Mkdir(h.in, 0o700), os.WriteFile(filepath.Join(h.top, "secret"), []byte("secret"), 0o600))
	return h
}

// check: the outside is as it was, and nothing inside shares a file with it.
func (h hostile) check(t rapid.TB) {
	t.Helper()
	entries, err := os.ReadDir(h.top)
	if err != nil || len(entries) != 2 {
		t.Fatalf("outside: %v, %v", entries, err)
	}
	secret := filepath.Join(h.top, "secret")
	fi, err := os.Lstat(secret)
	if b, _ := os.ReadFile(secret); err != nil || string(b) != "secret" || fi.Mode() != 0o600 || fi.Sys().(*syscall.Stat_t).Nlink != 1 {
		t.Fatalf("the secret was touched: %q, %v, %v", b, fi, err)
	}
	err = filepath.WalkDir(h.in, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.Type()&^(fs.ModeDir|fs.ModeSymlink) != 0 {
			t.Fatalf("%s is a %s", name, d.Type())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestHostile: archives that want to get out.
func TestHostile(t *testing.T) {
	for name, headers := range map[string][]tar.Header{
		"dot dot":               {{Typeflag: tar.TypeReg, Name: "../secret"}},
		"dot dot inside":        {{Typeflag: tar.TypeDir, Name: "a"}, {Typeflag: tar.TypeReg, Name: "a/../../secret"}},
		"absolute":              {{Typeflag: tar.TypeReg, Name: "/tmp/evil"}},
		"empty name":            {{Typeflag: tar.TypeReg, Name: ""}},
		"through a link":        {{Typeflag: tar.TypeSymlink, Name: "l", Linkname: ".."}, {Typeflag: tar.TypeReg, Name: "l/evil"}},
		"over a link":           {{Typeflag: tar.TypeSymlink, Name: "l", Linkname: "../secret"}, {Typeflag: tar.TypeReg, Name: "l"}},
		"directory over a link": {{Typeflag: tar.TypeSymlink, Name: "l", Linkname: ".."}, {Typeflag: tar.TypeDir, Name: "l", Mode: 0o777}},
		"hard link out":         {{Typeflag: tar.TypeLink, Name: "l", Linkname: "../secret"}},
		"hard link by a link":   {{Typeflag: tar.TypeSymlink, Name: "up", Linkname: ".."}, {Typeflag: tar.TypeLink, Name: "l", Linkname: "up/secret"}},
		"FIFO":                  {{Typeflag: tar.TypeFifo, Name: "f"}},
		"device":                {{Typeflag: tar.TypeChar, Name: "d", Devmajor: 1, Devminor: 3}},
		"block device":          {{Typeflag: tar.TypeBlock, Name: "d"}},
		"twice":                 {{Typeflag: tar.TypeReg, Name: "f"}, {Typeflag: tar.TypeReg, Name: "./f"}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHostile(t)
			if err := Extract(t.Context(), bytes.NewReader(archiveOf(t, headers...)), openRoot(t, h.in), nil); err == nil {
				t.Error("accepted")
			}
			h.check(t)
		})
	}
}

// TestAnyTree: whatever entries in whatever order, nothing outside is touched.
func TestAnyTree(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		h := newHostile(t)
		name := rapid.StringMatching(`(\.\./|\./|/)?[ab](/(\.\.|[ab])){0,3}`)
		var headers []tar.Header
		for range rapid.IntRange(1, 8).Draw(rt, "entries") {
			headers = append(headers, tar.Header{
				Typeflag: rapid.SampledFrom([]byte{tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeLink}).Draw(rt, "type"),
				Name:     name.Draw(rt, "name"), Linkname: rapid.SampledFrom([]string{"..", "../secret", "a", "b/a", "../..", "/"}).Draw(rt, "link"),
				Mode: 0o777,
			})
		}
		in := bytes.NewReader(archiveOf(t, headers...))
		_ = Extract(context.Background(), in, openRoot(t, h.in), nil) // only what it leaves counts
		h.check(rt)
	})
}

// FuzzExtract: no bytes lead out, or to anything but files, directories and links.
func FuzzExtract(f *testing.F) {
	f.Add(archiveOf(f, tar.Header{Typeflag: tar.TypeDir, Name: "a"}, tar.Header{Typeflag: tar.TypeReg, Name: "a/b"}))
	f.Add(archiveOf(f, tar.Header{Typeflag: tar.TypeSymlink, Name: "a", Linkname: ".."}, tar.Header{Typeflag: tar.TypeReg, Name: "a/secret"}))
	f.Add(archiveOf(f, tar.Header{Typeflag: tar.TypeReg, Name: "b"}, tar.Header{Typeflag: tar.TypeLink, Name: "a", Linkname: "b"}))
	f.Fuzz(func(t *testing.T, b []byte) {
		h := newHostile(t)
		_ = Extract(t.Context(), bytes.NewReader(b), openRoot(t, h.in), nil)
		h.check(t)
	})
}
