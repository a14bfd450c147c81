package main

import (
	"archive/zip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestClusterCA(t *testing.T) {
	w := newWorld(t)
	certificate := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("a certificate")}))
	answer := certificate + certificate
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/cluster/ca" {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write([]byte(answer))
	}))
	t.Cleanup(srv.Close)
	w.env["TENEMENT_SERVER"], w.env["TENEMENT_TOKEN"] = srv.URL, ""
	if stdout, stderr, code := w.run(t.Context(), "cluster", "ca"); code != 0 || stdout != answer {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
	stdout, stderr, code := w.run(t.Context(), "cluster", "ca", "--json")
	var got authority
	if err := json.Unmarshal([]byte(stdout), &got); code != 0 || err != nil {
		t.Fatalf("exit %d: %s%s", code, stdout, stderr)
	}
	sum := sha256.Sum256([]byte("a certificate"))
	if want := hex.EncodeToString(sum[:]); got.PEM != answer || len(got.Fingerprints) != 2 || got.Fingerprints[1] != want {
		t.Errorf("got %+v, want the fingerprint %s twice", got, want)
	}
	answer = "<html>"
	if stdout, stderr, code := w.run(t.Context(), "cluster", "ca"); code != exitError || stdout != "" || !strings.Contains(stderr, "something else") {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
}

func TestProviderInstall(t *testing.T) {
	w := newWorld(t)
	home := t.TempDir()
	w.env["HOME"], w.env["APPDATA"] = home, filepath.Join(home, "data")
	stdout, stderr, code := w.run(t.Context(), "provider", "install", "--json")
	var got installed
	if err := json.Unmarshal([]byte(stdout), &got); code != 0 || err != nil {
		t.Fatalf("exit %d: %s%s", code, stdout, stderr)
	}
	plugins := filepath.Join(home, ".terraform.d", "plugins")
	if runtime.GOOS == "windows" {
		plugins = filepath.Join(home, "data", "terraform.d", "plugins")
	}
	name := "terraform-provider-ten_0.0.1_" + runtime.GOOS + "_" + runtime.GOARCH + ".zip"
	want := installed{File: filepath.Join(plugins, "registry.terraform.io", "tenement", "ten", name), Source: "tenement/ten", Version: "0.0.1"}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	z, err := zip.OpenReader(got.File)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(self)
	if err != nil || len(z.File) != 1 || z.File[0].UncompressedSize64 != uint64(info.Size()) || !strings.HasPrefix(z.File[0].Name, "terraform-provider-ten_v0.0.1") {
		t.Errorf("the package holds %+v: %v", z.File[0].FileHeader, err)
	}

	dir := t.TempDir()
	stdout, stderr, code = w.run(t.Context(), "provider", "install", "--dir", dir, "--host", "ten.example.com")
	for _, part := range []string{
		"wrote " + filepath.Join(dir, "ten.example.com", "tenement", "ten", name), `include = ["ten.example.com/tenement/ten"]`,
		`exclude = ["ten.example.com/tenement/ten"]`, `source  = "ten.example.com/tenement/ten"`, `version = "0.0.1"`,
	} {
		if code != 0 || !strings.Contains(stdout, part) {
			t.Errorf("exit %d: %s%s, want %s", code, stdout, stderr, part)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*", "*", "*", "new-*")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}

	for _, host := range []string{"", "a/b", "..", `a\b`} {
		if _, stderr, code := w.run(t.Context(), "provider", "install", "--dir", dir, "--host", host); code != exitUsage || !strings.Contains(stderr, "host") {
			t.Errorf("host %q: exit %d: %s", host, code, stderr)
		}
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, stderr, code := w.run(t.Context(), "provider", "install", "--dir", file); code != exitError || !strings.Contains(stderr, "write package") {
		t.Errorf("into a file: exit %d: %s", code, stderr)
	}
	w.env["HOME"], w.env["APPDATA"] = "", ""
	if _, stderr, code := w.run(t.Context(), "provider", "install"); code != exitError || !strings.Contains(stderr, "--dir") {
		t.Errorf("without a home: exit %d: %s", code, stderr)
	}
}
