package secret

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// maxFile bounds what is read of a file that should hold one or two secrets.
const maxFile = 4096

// Load reads a keyring: one secret a line, the primary first. A file that others could
// read is refused, as what it holds must be taken for known to them.
func Load(path string) (*Keyring, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("load secret: %w", err)
	}
	defer func() { _ = f.Close() }() // was only read
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("load secret: %w", err)
	}
	if err := checkFile(path, info); err != nil {
		return nil, fmt.Errorf("load secret: %w", err)
	}
	b := make([]byte, info.Size())
	n, err := f.ReadAt(b, 0)
	if n < len(b) {
		return nil, fmt.Errorf("load secret: %w", err)
	}
	var secrets []Secret
	for i, line := range strings.Split(string(b), "\n") {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		s, err := Parse(line)
		if err != nil {
			return nil, fmt.Errorf("load secret: %s line %d: %w", path, i+1, err)
		}
		secrets = append(secrets, s)
	}
	if len(secrets) == 0 {
		return nil, fmt.Errorf("load secret: %s is empty", path)
	}
	k, err := NewKeyring(secrets...)
	if err != nil {
		return nil, fmt.Errorf("load secret: %s: %w", path, err)
	}
	return k, nil
}

func checkFile(path string, info os.FileInfo) error {
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a file", path)
	}
	if info.Size() > maxFile {
		return fmt.Errorf("%s has %d bytes: that is no secret", path, info.Size())
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 && runtime.GOOS != "windows" {
		return fmt.Errorf("%s has mode %04o, so that others may know it: run chmod 600 %s", path, perm, path)
	}
	return nil
}

// Save writes the keyring so that after a crash the file is the old one or the new one.
func (k *Keyring) Save(path string) error {
	var text strings.Builder
	for _, s := range k.Secrets() {
		text.WriteString(s.Reveal() + "\n")
	}
	if err := replaceFile(path, []byte(text.String())); err != nil {
		return fmt.Errorf("save secret: %w", err)
	}
	return nil
}

func replaceFile(path string, b []byte) (err error) {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*") // with mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(b)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
