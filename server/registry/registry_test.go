package registry

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"

	"github.com/tenement-fleet/tenement/api"
)

const here = runtime.GOOS + "_" + runtime.GOARCH

func TestVersion(t *testing.T) {
	for build, want := range map[string]string{
		"v1.2.3": "1.2.3", "1.2.3": "1.2.3", "v0.1.0": "0.1.0", "v1.2.3-rc.1": "1.2.3-rc.1",
		"dev": Unreleased, "": Unreleased, "d4cdc1d": Unreleased, "v1.2.3-4-gd4cdc1d": Unreleased, "v1.2.3-dirty": Unreleased,
		"v1.2.3-4-gd4cdc1d-dirty": Unreleased, "v1.2": Unreleased, "v01.2.3": Unreleased, "v1.2.3+meta": Unreleased, "v1.2.3/../x": Unreleased,
		"1.2.3\n": Unreleased,
	} {
		if got := Version(build); got != want {
			t.Errorf("%q: got %s, want %s", build, got, want)
		}
	}
	list := []string{"1.10.0", "1.2.3", "1.2.3-rc.2", "1.2.3-rc.1", "0.9.0"}
	slices.SortFunc(list, compareVersions)
	if want := "0.9.0 1.2.3-rc.1 1.2.3-rc.2 1.2.3 1.10.0"; strings.Join(list, " ") != want {
		t.Errorf("got %s, want %s", list, want)
	}
}

func TestPack(t *testing.T) {
	for _, tc := range []struct{ goos, name string }{{"linux", "terraform-provider-ten_v1.2.3"}, {"windows", "terraform-provider-ten_v1.2.3.exe"}} {
		var a, b bytes.Buffer
		packed, err := pack(&a, strings.NewReader("the program"), "1.2.3", tc.goos)
		if err != nil {
			t.Fatal(err)
		}
		if err := Pack(&b, strings.NewReader("the program"), "1.2.3", tc.goos); err != nil || !bytes.Equal(a.Bytes(), b.Bytes()) {
			t.Errorf("one program, two packages: %v", err)
		}
		read, err := unpack(bytes.NewReader(a.Bytes()), int64(a.Len()))
		if err != nil || read != packed || packed.hex() != sha256Hex(a.String()) {
			t.Errorf("%+v was written, %+v is read: %v", packed, read, err)
		}
		z, err := zip.NewReader(bytes.NewReader(a.Bytes()), int64(a.Len()))
		if err != nil {
			t.Fatal(err)
		}
		f, err := z.File[0].Open()
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(f)
		if len(z.File) != 1 || z.File[0].Name != tc.name || z.File[0].Mode() != 0o755 || string(content) != "the program" || err != nil {
			t.Errorf("got %q with mode %v and %q, %v", z.File[0].Name, z.File[0].Mode(), content, err)
		}
	}
}

// What golang.org/x/mod/sumdb/dirhash computes, and Terraform with it.
func TestH1(t *testing.T) {
	files := map[string][sha256.Size]byte{"b": sha256.Sum256([]byte("B")), "a": sha256.Sum256([]byte("A"))}
	if got, want := h1(files), "h1:qbAmSbnQ7yALwDYC9SKMIukW6jHUH0tYUqy9eEVULRg="; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func sha256Hex(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

func TestKey(t *testing.T) {
	k := newKey(t)
	ring, err := openpgp.ReadArmoredKeyRing(strings.NewReader(k.Armor()))
	if err != nil || len(ring) != 1 || ring[0].PrivateKey != nil || len(k.ID()) != 16 {
		t.Fatalf("public half: %v, %v", ring, err)
	}
	signature, err := k.Sign([]byte("message"))
	if err != nil {
		t.Fatal(err)
	}
	if again, err := k.Sign([]byte("message")); err != nil || !bytes.Equal(again, signature) {
		t.Errorf("one message, two signatures: %v", err)
	}
	if _, err := openpgp.CheckDetachedSignature(ring, strings.NewReader("message"), bytes.NewReader(signature), nil); err != nil {
		t.Error(err)
	}
	if _, err := openpgp.CheckDetachedSignature(ring, strings.NewReader("massage"), bytes.NewReader(signature), nil); err == nil {
		t.Error("another message has the signature, too")
	}
	other := newKey(t)
	if other.ID() == k.ID() {
		t.Error("two keys, one id")
	}
	for name, b := range map[string][]byte{"nothing": nil, "text": []byte("key"), "a public key": publicHalf(t, k)} {
		if _, err := ParseKey(b); err == nil {
			t.Errorf("%s was taken for a private key", name)
		}
	}
}

func publicHalf(t *testing.T, k *Key) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := k.entity.Serialize(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestAnswers follows what Terraform does from the first answer to the package.
func TestAnswers(t *testing.T) {
	f := newFixture(t)
	versions, err := f.Versions(t.Context())
	if err != nil || len(versions.Versions) != 1 {
		t.Fatalf("got %+v, %v", versions, err)
	}
	v := versions.Versions[0]
	if v.Version != "1.2.3" || !slices.Equal(v.Protocols, []string{"6.0"}) || !slices.Equal(v.Platforms, []api.RegistryPlatform{{OS: runtime.GOOS, Arch: runtime.GOARCH}}) {
		t.Errorf("got %+v", v)
	}
	p, err := f.Package(t.Context(), "1.2.3", runtime.GOOS, runtime.GOARCH)
	if err != nil {
		t.Fatal(err)
	}
	name := "terraform-provider-ten_1.2.3_" + here + ".zip"
	if p.Filename != name || p.DownloadURL != "/terraform/files/"+name || p.ShasumsURL != "/terraform/files/terraform-provider-ten_1.2.3_SHA256SUMS" ||
		p.SignatureURL != p.ShasumsURL+".sig" || p.OS+"_"+p.Arch != here {
		t.Errorf("got %+v", p)
	}
	content, tag, err := f.file(t, p.Filename)
	if err != nil || p.Shasum != sha256Hex(content) || tag != p.Shasum {
		t.Errorf("the package is not what its sum says: %v", err)
	}
	sums, _, err := f.file(t, filepath.Base(p.ShasumsURL))
	if want := p.Shasum + "  " + name + "\n"; err != nil || sums != want {
		t.Errorf("got %q, %v, want %q", sums, err, want)
	}
	signature, _, err := f.file(t, filepath.Base(p.SignatureURL))
	if err != nil {
		t.Fatal(err)
	}
	ring, err := openpgp.ReadArmoredKeyRing(strings.NewReader(p.SigningKeys.GPG[0].Armor))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openpgp.CheckDetachedSignature(ring, strings.NewReader(sums), strings.NewReader(signature), nil); err != nil {
		t.Error(err)
	}
	mirror, err := f.MirrorVersions(t.Context())
	archives, err2 := f.MirrorArchives(t.Context(), "1.2.3")
	if _, ok := mirror.Versions["1.2.3"]; err != nil || err2 != nil || !ok || len(mirror.Versions) != 1 {
		t.Fatalf("got %+v, %v, %v", mirror, err, err2)
	}
	if a := archives.Archives[here]; a.URL != p.DownloadURL || len(a.Hashes) != 2 || !strings.HasPrefix(a.Hashes[0], "h1:") || a.Hashes[1] != "zh:"+p.Shasum {
		t.Errorf("got %+v", archives)
	}
}

func TestWhatThereIsNot(t *testing.T) {
	f := newFixture(t)
	for _, tc := range [][3]string{{"1.2.4", runtime.GOOS, runtime.GOARCH}, {"1.2.3", "plan9", runtime.GOARCH}, {"../1.2.3", "", ""}, {"", "", ""}} {
		if _, err := f.Package(t.Context(), tc[0], tc[1], tc[2]); api.CodeOf(err) != api.CodeNotFound {
			t.Errorf("%q: got %v", tc, err)
		}
	}
	if _, err := f.MirrorArchives(t.Context(), "1.2.4"); api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("got %v", err)
	}
	writeFile(t, filepath.Join(f.cfg.Given, "secret.zip"), "x")
	for _, name := range []string{
		"", ".", "..", "/", "../ten", "../../etc/passwd", "/etc/passwd", "secret.zip", "given/secret.zip", "../given/secret.zip",
		"terraform-provider-ten_1.2.3_../../x_amd64.zip", "terraform-provider-ten_1.2.3_" + here + ".zip/", "terraform-provider-ten_1.2.3_" + here + ".ZIP",
		"terraform-provider-ten_1.2.3_" + here + ".zip\x00", "terraform-provider-ten_1.2.4_SHA256SUMS", "terraform-provider-ten_1.2.3_SHA256SUMS.sig.sig",
		"terraform-provider-ten__SHA256SUMS", "new-1", "1.2.3_x.zip",
	} {
		if _, _, err := f.file(t, name); api.CodeOf(err) != api.CodeNotFound {
			t.Errorf("%q: got %v", name, err)
		}
	}
}

// However many ask first, the package is made once; and once for all processes after this.
func TestMadeOnce(t *testing.T) {
	f := newFixture(t)
	if _, err := os.Stat(f.cfg.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Error("something was made before anybody asked")
	}
	tags := make([]string, 50)
	var wg sync.WaitGroup
	for i := range tags {
		wg.Go(func() {
			r, tag, err := f.Open(context.Background(), "terraform-provider-ten_1.2.3_"+here+".zip")
			if err != nil {
				t.Error(err)
				return
			}
			tags[i] = tag
			r.Close()
		})
	}
	wg.Wait()
	if n := f.made(); n != 1 || len(slices.Compact(tags)) != 1 || tags[0] == "" {
		t.Errorf("made %d times: %q", n, slices.Compact(tags))
	}
	f.restart(t)
	if err := f.Prepare(t.Context()); err != nil || f.made() != 1 {
		t.Errorf("made again after a restart: %v", err)
	}
	// While it is made, Terraform hears at once that there will be one; who asks for more
	// than that, and has no time, hears nothing.
	release, err := f.shelf.making.take(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	ctx, cancel := context.WithCancel(t.Context())
	if v, err := f.Versions(ctx); err != nil || len(v.Versions) != 1 {
		t.Errorf("versions: got %+v, %v", v, err)
	}
	if v, err := f.MirrorVersions(ctx); err != nil || len(v.Versions) != 1 {
		t.Errorf("versions: got %+v, %v", v, err)
	}
	cancel()
	if _, err := f.Package(ctx, "1.2.3", runtime.GOOS, runtime.GOARCH); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// The package is made anew when the program or its version is another, or when somebody
// damaged or removed it. Nothing else stays in its directory.
func TestMadeAnew(t *testing.T) {
	f := newFixture(t)
	kept := func() string {
		t.Helper()
		if err := f.Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
		entries, err := os.ReadDir(f.cfg.Dir)
		if err != nil || len(entries) != 1 {
			t.Fatalf("got %v, %v, want one file", entries, err)
		}
		return filepath.Join(f.cfg.Dir, entries[0].Name())
	}
	first := kept()
	for n, tc := range []struct {
		name   string
		change func()
		same   bool
	}{
		{"removed while it is served", func() {}, true},
		{"damaged", func() { writeFile(t, first, "half"); f.restart(t) }, true},
		{"empty", func() { writeFile(t, first, ""); f.restart(t) }, true},
		{"a power cut while it was made", func() { writeFile(t, filepath.Join(f.cfg.Dir, "new-123"), "half"); f.restart(t) }, true},
		{"another program", func() { writeFile(t, f.cfg.Program, "another program"); f.restart(t) }, false},
		{"another version", func() { f.cfg.Version = "1.2.4"; f.restart(t) }, false},
	} {
		if err := os.Remove(first); err != nil {
			t.Fatal(err)
		}
		tc.change()
		next := kept()
		if f.made() != n+2 || (next == first) != tc.same {
			t.Errorf("%s: made %d times, %s after %s", tc.name, f.made(), next, first)
		}
		first = next
	}
}

func TestGiven(t *testing.T) {
	f := newFixture(t)
	archive := func(program string) string {
		var b bytes.Buffer
		if err := Pack(&b, strings.NewReader(program), "1.2.3", "darwin"); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	give := func(name, text string) { writeFile(t, filepath.Join(f.cfg.Given, name), text) }
	good := archive("for a mac")
	give("terraform-provider-ten_1.2.3_darwin_arm64.zip", good)
	give("terraform-provider-ten_1.1.0_"+here+".zip", archive("an old one"))
	give("terraform-provider-ten_1.2.3_"+here+".zip", archive("not the one that runs"))
	give("terraform-provider-ten_1.2.3_half_done.zip", good[:len(good)/2])
	give("terraform-provider-ten_1.2.3_no_zip.zip", "text")
	give("terraform-provider-ten_1.2_darwin_arm64.zip", good)
	give("terraform-provider-ten_1.2.3_Darwin_arm64.zip", good)
	give("terraform-provider-other_1.2.3_darwin_arm64.zip", good)
	give("alice/terraform-provider-ten_1.2.3_darwin_amd64.zip", good) // an instance's data
	outside := filepath.Join(t.TempDir(), "outside.zip")
	writeFile(t, outside, good)
	if err := os.Symlink(outside, filepath.Join(f.cfg.Given, "terraform-provider-ten_1.2.3_link_arm64.zip")); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(f.cfg.Given, "terraform-provider-ten_1.2.3_dir_arm64.zip"), 0o755); err != nil {
		t.Fatal(err)
	}
	names := func() string {
		t.Helper()
		v, err := f.Versions(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, one := range v.Versions {
			for _, p := range one.Platforms {
				out = append(out, one.Version+"_"+p.OS+"_"+p.Arch)
			}
		}
		return strings.Join(out, " ")
	}
	if got, want := names(), "1.1.0_"+here+" 1.2.3_darwin_arm64 1.2.3_"+here; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	sums, tag, err := f.file(t, "terraform-provider-ten_1.2.3_SHA256SUMS")
	if err != nil || strings.Count(sums, "\n") != 2 || !strings.Contains(sums, sha256Hex(good)+"  terraform-provider-ten_1.2.3_darwin_arm64.zip\n") {
		t.Errorf("got %q, %v", sums, err)
	}
	if refused := strings.Count(f.log.String(), "is not served"); refused != 2 {
		t.Errorf("%d were said to be refused, want those of which a half and a text: %s", refused, f.log)
	}
	if _, err := f.Package(t.Context(), "1.2.3", "plan9", "amd64"); err == nil || !strings.Contains(err.Error(), "darwin_arm64, "+here) {
		t.Errorf("got %v, want it to name what there is", err)
	}

	// What is replaced is noticed at once by whoever would get the wrong bytes, and by all a
	// second later.
	give("terraform-provider-ten_1.2.3_darwin_arm64.zip", archive("another program"))
	if _, _, err := f.file(t, "terraform-provider-ten_1.2.3_darwin_arm64.zip"); api.CodeOf(err) != api.CodeUnavailable {
		t.Errorf("got %v", err)
	}
	give("terraform-provider-ten_1.2.3_half_done.zip", good)
	f.now = f.now.Add(lookAgain)
	if got := names(); !strings.Contains(got, "half_done") {
		t.Errorf("got %s, want what is whole now", got)
	}
	if _, next, err := f.file(t, "terraform-provider-ten_1.2.3_SHA256SUMS"); err != nil || next == tag {
		t.Errorf("the checksums are still the old ones: %v", err)
	}
	if _, _, err := f.file(t, "terraform-provider-ten_1.2.3_darwin_arm64.zip"); err != nil {
		t.Error(err)
	}
	if err := os.RemoveAll(f.cfg.Given); err != nil {
		t.Fatal(err)
	}
	f.now = f.now.Add(-time.Hour) // the clock is put right
	if got, want := names(), "1.2.3_"+here; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestArchivesThatAreRefused(t *testing.T) {
	write := func(names ...string) []byte {
		var b bytes.Buffer
		z := zip.NewWriter(&b)
		for _, name := range names {
			h := &zip.FileHeader{Name: name}
			h.SetMode(0o755)
			if rest, ok := strings.CutPrefix(name, "link:"); ok {
				h.Name = rest
				h.SetMode(0o777 | fs.ModeSymlink)
			}
			w, err := z.CreateHeader(h)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(name, "/") {
				if _, err := w.Write([]byte("x")); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	for _, tc := range []struct {
		names []string
		ok    bool
	}{
		{[]string{"terraform-provider-ten_v1.2.3"}, true},
		{[]string{"LICENSE", "terraform-provider-ten", "docs/", "docs/x"}, true},
		{[]string{"LICENSE"}, false},
		{[]string{"bin/terraform-provider-ten"}, false},
		{[]string{"terraform-provider-ten", "../x"}, false},
		{[]string{"terraform-provider-ten", "/etc/x"}, false},
		{[]string{"terraform-provider-ten", "link:x"}, false},
		{nil, false},
	} {
		b := write(tc.names...)
		if _, err := unpack(bytes.NewReader(b), int64(len(b))); (err == nil) != tc.ok {
			t.Errorf("%q: got %v", tc.names, err)
		}
	}
}

func TestNewRefusesWhatIsIncomplete(t *testing.T) {
	f := newFixture(t)
	for name, change := range map[string]func(*Config){
		"program": func(c *Config) { c.Program = "" }, "version": func(c *Config) { c.Version = "dev" }, "key": func(c *Config) { c.Key = nil },
	} {
		cfg := f.cfg
		change(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("without %s: no error", name)
		}
	}
	f.cfg.Program = filepath.Join(t.TempDir(), "gone")
	f.restart(t)
	if err := f.Prepare(t.Context()); err == nil {
		t.Error("a program that is gone was handed out")
	}
}
