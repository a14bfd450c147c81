// Package archive carries a directory tree from one machine to another as a tar archive.
//
// Neither end trusts what is in the tree: it was made by programs, and the archive by
// another machine. Both stay inside an [os.Root], whatever links say. Regular files,
// directories, symbolic links and hard links are carried, with mode, modification time
// and numeric owner; sockets, FIFOs and devices are left out, and refused.
package archive

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
)

// bufferSize is how much is read and written at once; a run of zeros of this length
// becomes a hole.
const bufferSize = 64 << 10

// inode identifies a file that has more than one name.
type inode struct{ dev, ino uint64 }

// writer makes one archive.
type writer struct {
	ctx   context.Context //nolint:containedctx // of the one call that the writer lives for
	root  *os.Root
	tar   *tar.Writer
	buf   []byte
	names map[inode]string // the first name of files that have several
}

// Write writes the tree below root as an archive. Nobody may change the tree meanwhile:
// that is an error, as far as it is noticed.
func Write(ctx context.Context, w io.Writer, root *os.Root) error {
	a := writer{ctx: ctx, root: root, tar: tar.NewWriter(w), buf: make([]byte, bufferSize), names: make(map[inode]string)}
	if err := fs.WalkDir(root.FS(), ".", a.add); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	if err := a.tar.Close(); err != nil {
		return fmt.Errorf("write archive: %w", err)
	}
	return nil
}

func (a *writer) add(name string, d fs.DirEntry, err error) error {
	if err != nil {
		return err
	}
	if a.ctx.Err() != nil {
		return context.Cause(a.ctx)
	}
	fi, err := d.Info()
	if err != nil {
		return err
	}
	var target string
	switch fi.Mode().Type() {
	case 0, fs.ModeDir:
	case fs.ModeSymlink:
		if target, err = a.root.Readlink(name); err != nil {
			return err
		}
	default: // means something only where it was made
		return nil
	}
	h, err := tar.FileInfoHeader(fi, target)
	if err != nil {
		return err
	}
	h.Name, h.Format = name, tar.FormatPAX // for names of any length, and all of the time
	h.Uname, h.Gname = "", ""
	h.AccessTime, h.ChangeTime = h.ModTime, h.ModTime
	if !fi.Mode().IsRegular() {
		return a.tar.WriteHeader(h)
	}
	if first, ok := a.firstName(name, fi); ok {
		h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
		return a.tar.WriteHeader(h)
	}
	return a.addFile(h, fi)
}

// firstName returns the name under which the same file is in the archive already.
func (a *writer) firstName(name string, fi fs.FileInfo) (string, bool) {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok || st.Nlink < 2 {
		return "", false
	}
	id := inode{uint64(st.Dev), st.Ino} //nolint:unconvert,gosec // its type depends on the system
	first, ok := a.names[id]
	if !ok {
		a.names[id] = name
	}
	return first, ok
}

func (a *writer) addFile(h *tar.Header, fi fs.FileInfo) error {
	f, err := a.root.OpenFile(h.Name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read
	now, err := f.Stat()
	if err != nil {
		return err
	}
	if !os.SameFile(fi, now) || now.Size() != fi.Size() {
		return fmt.Errorf("read %s: it changes", h.Name)
	}
	if err := a.tar.WriteHeader(h); err != nil {
		return err
	}
	for left := h.Size; left > 0; {
		if a.ctx.Err() != nil {
			return context.Cause(a.ctx)
		}
		n, err := f.Read(a.buf[:min(left, int64(len(a.buf)))])
		if n > 0 {
			left -= int64(n)
			if _, err := a.tar.Write(a.buf[:n]); err != nil {
				return err
			}
		}
		if err != nil && left > 0 {
			return fmt.Errorf("read %s: it changes: %w", h.Name, err)
		}
	}
	return nil
}

// Extract makes the tree of an archive below root, which should be empty: what exists is
// not replaced. room is called again and again while data comes in; its error ends the
// extraction. r is read to its end. After an error some of the tree may be there.
func Extract(ctx context.Context, r io.Reader, root *os.Root, room func() error) error {
	x := reader{ctx: ctx, root: root, room: room, chown: os.Geteuid() == 0, buf: make([]byte, bufferSize)}
	if err := x.extract(tar.NewReader(r)); err != nil {
		return fmt.Errorf("extract archive: %w", err)
	}
	if n, err := io.Copy(io.Discard, io.LimitReader(r, maxPadding)); err != nil || n == maxPadding {
		return fmt.Errorf("extract archive: it does not end where it should: %w", errors.Join(err, tar.ErrHeader))
	}
	return nil
}

const (
	// maxPadding is what may come after the end of an archive.
	maxPadding = 1 << 20
	// roomEvery is how much comes in, in bytes, before it is asked for room again; an
	// entry counts entryCost on top of what it contains.
	roomEvery = 8 << 20
	entryCost = 4 << 10
)

// reader extracts one archive.
type reader struct {
	ctx   context.Context //nolint:containedctx // of the one call that the reader lives for
	root  *os.Root
	room  func() error
	chown bool
	buf   []byte
	since int64         // bytes since room was asked for last
	dirs  []*tar.Header // they get their mode when everything in them is there
}

func (x *reader) extract(in *tar.Reader) error {
	for {
		if err := x.take(entryCost); err != nil {
			return err
		}
		h, err := in.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if err := x.entry(h, in); err != nil {
			return fmt.Errorf("%q: %w", h.Name, err)
		}
	}
	for i := len(x.dirs) - 1; i >= 0; i-- {
		if err := x.attributes(x.dirs[i]); err != nil {
			return err
		}
	}
	return nil
}

// take counts what comes in.
func (x *reader) take(n int64) error {
	if x.ctx.Err() != nil {
		return context.Cause(x.ctx)
	}
	if x.since += n; x.since < roomEvery || x.room == nil {
		return nil
	}
	x.since = 0
	return x.room()
}

var errRefused = errors.New("refused")

// local returns the name of a file inside the tree in its simplest form.
func local(name string) (string, error) {
	clean := path.Clean(name)
	if name == "" || strings.ContainsRune(name, 0) || path.IsAbs(name) || clean == ".." || strings.HasPrefix(clean, "../") {
		return "", fmt.Errorf("%w: a name that leads out of the tree", errRefused)
	}
	return clean, nil
}

func (x *reader) entry(h *tar.Header, in io.Reader) (err error) {
	if h.Name, err = local(h.Name); err != nil {
		return err
	}
	switch h.Typeflag {
	case tar.TypeDir:
		if h.Name != "." {
			err = x.root.Mkdir(h.Name, 0o700)
		}
		x.dirs = append(x.dirs, h)
		return err
	case tar.TypeReg:
		return x.file(h, in)
	case tar.TypeSymlink:
		if err := x.root.Symlink(h.Linkname, h.Name); err != nil || !x.chown {
			return err
		}
		return x.root.Lchown(h.Name, h.Uid, h.Gid)
	case tar.TypeLink:
		first, err := local(h.Linkname)
		if err != nil {
			return err
		}
		return x.root.Link(first, h.Name)
	default:
		return fmt.Errorf("%w: an entry of type %q", errRefused, h.Typeflag)
	}
}

func (x *reader) file(h *tar.Header, in io.Reader) error {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") { // few bytes could stand for any number of zeros
			return fmt.Errorf("%w: a sparse entry", errRefused)
		}
	}
	f, err := x.root.OpenFile(h.Name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = x.fill(f, h.Size, in)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return x.attributes(h)
}

// fill writes what is in the entry, and leaves holes where there are zeros only.
func (x *reader) fill(f *os.File, size int64, in io.Reader) error {
	var at int64
	for at < size {
		buf := x.buf[:min(int64(len(x.buf)), size-at)]
		if _, err := io.ReadFull(in, buf); err != nil {
			return fmt.Errorf("read contents: %w", err)
		}
		if !zero(buf) {
			if _, err := f.WriteAt(buf, at); err != nil {
				return err
			}
			if err := x.take(int64(len(buf))); err != nil {
				return err
			}
		} else if x.ctx.Err() != nil {
			return context.Cause(x.ctx)
		}
		at += int64(len(buf))
	}
	return f.Truncate(size)
}

func zero(b []byte) bool {
	for len(b) >= 8 {
		if b[0]|b[1]|b[2]|b[3]|b[4]|b[5]|b[6]|b[7] != 0 {
			return false
		}
		b = b[8:]
	}
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// attributes gives a file or a directory its owner, mode and time. A file does not keep
// the bits that would lend its owner's rights to whoever runs it.
func (x *reader) attributes(h *tar.Header) error {
	if x.chown {
		if err := x.root.Lchown(h.Name, h.Uid, h.Gid); err != nil {
			return err
		}
	}
	keep := fs.ModePerm | fs.ModeSticky
	if h.Typeflag == tar.TypeDir {
		keep |= fs.ModeSetgid
	}
	if err := x.root.Chmod(h.Name, h.FileInfo().Mode()&keep); err != nil {
		return err
	}
	return x.root.Chtimes(h.Name, h.ModTime, h.ModTime)
}
