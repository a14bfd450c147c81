package secret

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestKeyring(t *testing.T) {
	a, b, c := fixed(1), fixed(2), fixed(3)
	k := keyring(t, a)
	changed := k.Changed()
	expect := func(want bool, secrets ...Secret) {
		t.Helper()
		if got := k.Secrets(); !slices.Equal(got, secrets) {
			t.Fatalf("got the secrets %v", k.IDs())
		}
		for i, s := range secrets {
			ca, err := s.CA()
			if err != nil {
				t.Fatal(err)
			}
			if k.IDs()[i] != s.ID() || k.CAs()[i].Fingerprint() != ca.Fingerprint() ||
				!bytes.Equal(k.GossipKeys()[i], s.derive("gossip", 32)) {
				t.Fatalf("key %d does not belong to its secret", i)
			}
		}
		select {
		case <-changed:
			if !want {
				t.Fatal("a change was signalled that was none")
			}
		default:
			if want {
				t.Fatal("the change was not signalled")
			}
		}
		changed = k.Changed()
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	refused := func(err error, why string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Fatalf("got %v, want %q", err, why)
		}
	}
	must(k.Add(a))
	expect(false, a)
	must(k.Add(b))
	expect(true, a, b)
	refused(k.Add(c), "remove one first")
	refused(k.Add(Secret{}), "no secret")
	must(k.Add(b))
	expect(false, a, b)
	refused(k.Remove(a.ID()), "in use")
	refused(k.Use(c.ID()), "add it first")
	must(k.Use(b.ID()))
	expect(true, b, a)
	must(k.Use(b.ID()))
	must(k.Remove(c.ID()))
	expect(false, b, a)
	must(k.Remove(a.ID()))
	expect(true, b)
	refused(k.Remove(b.ID()), "in use")

	for name, secrets := range map[string][]Secret{"none": {}, "three": {a, b, c}, "twice": {a, a}, "zero": {{}}} {
		if _, err := NewKeyring(secrets...); err == nil {
			t.Errorf("a keyring of %s", name)
		}
	}
}

func TestFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "secret")
	k := keyring(t, fixed(1), fixed(2))
	for range 2 { // also over an old one
		if err := k.Save(path); err != nil {
			t.Fatal(err)
		}
		got, err := Load(path)
		if err != nil || !slices.Equal(got.Secrets(), k.Secrets()) {
			t.Fatalf("got %v, %v", got, err)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v, want mode 0600", info.Mode(), err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("files were left behind: %v", entries)
	}
	if err := k.Save(filepath.Join(dir, "missing", "secret")); err == nil {
		t.Error("saved in a directory that does not exist")
	}
}

func TestLoadErrors(t *testing.T) {
	good := fixed(1).Reveal()
	for name, c := range map[string]struct {
		text, want string
		mode       os.FileMode
	}{
		"readable":   {good, "run chmod 600 ", 0o640},
		"executable": {good, "run chmod 600 ", 0o601},
		"empty":      {"\n\n", "is empty", 0o600},
		"three":      {good + "\n" + fixed(2).Reveal() + "\n" + fixed(3).Reveal(), "want 1 to 2", 0o600},
		"twice":      {good + "\n" + good, "twice", 0o600},
		"malformed":  {"\n" + good[:30], "line 2: parse secret", 0o600},
		"huge":       {strings.Repeat("x", 5000), "that is no secret", 0o600},
	} {
		path := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(path, []byte(c.text), c.mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, c.mode); err != nil { // whatever the umask
			t.Fatal(err)
		}
		_, err := Load(path)
		if err == nil || !strings.Contains(err.Error(), c.want) || leaks(err.Error(), good) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
	if _, err := Load(filepath.Join(t.TempDir(), "secret")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: got %v", err)
	}
	if _, err := Load(t.TempDir()); err == nil || !strings.Contains(err.Error(), "is not a file") {
		t.Errorf("directory: got %v", err)
	}
}

func TestSealProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := anySecret().Draw(t, "a"), anySecret().Draw(t, "b")
		if a == b {
			return
		}
		plain := rapid.SliceOf(rapid.Byte()).Draw(t, "plain")
		context := rapid.SliceOf(rapid.Byte()).Draw(t, "context")
		ka, _ := NewKeyring(a)
		kba, _ := NewKeyring(b, a)
		kb, _ := NewKeyring(b)
		sealed := ka.Seal(plain, context)
		if SealedWith(sealed) != a.ID() {
			t.Fatal("the value does not name its secret")
		}
		for _, k := range []*Keyring{ka, kba} {
			if got, err := k.Open(sealed, context); err != nil || !bytes.Equal(got, plain) {
				t.Fatalf("got %x, %v", got, err)
			}
		}
		refuse := func(k *Keyring, sealed, context []byte, what string) {
			if _, err := k.Open(sealed, context); !errors.Is(err, ErrSealed) {
				t.Fatalf("%s: got %v", what, err)
			}
		}
		refuse(kb, sealed, context, "another secret")
		refuse(ka, sealed, append(slices.Clone(context), 0), "another context")
		i := rapid.IntRange(0, len(sealed)-1).Draw(t, "place")
		flipped := slices.Clone(sealed)
		flipped[i] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		refuse(kba, flipped, context, "a flipped bit")
		refuse(ka, sealed[:i], context, "cut short")
		if bytes.Equal(sealed, ka.Seal(plain, context)) {
			t.Fatal("the same nonce twice")
		}
	})
}
