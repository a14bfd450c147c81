package agent

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tenement-fleet/tenement/api"
)

// bare returns an agent of which only files are used.
func bare(t *testing.T, getenv func(string) string) *Agent {
	t.Helper()
	dir := t.TempDir()
	cfg := Config{DataDir: filepath.Join(dir, "data"), SocketDir: filepath.Join(dir, "sock"), Getenv: getenv}
	for _, d := range []string{cfg.DataDir, cfg.SocketDir} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.OpenRoot(cfg.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = data.Close() })
	return &Agent{cfg: cfg, data: data}
}

func noEnv(string) string { return "" }

// TestSpec: placeholders everywhere, and an environment with nothing in it by accident.
func TestSpec(t *testing.T) {
	a := bare(t, func(name string) string {
		return map[string]string{"PATH": "/bin:/usr/bin", "TZ": "UTC", "SECRET": "s"}[name]
	})
	svc := testService(true)
	svc.Command = "sh"
	svc.Args = []string{"-c", "{name} {id} {port} {socket} {other}", "{data_dir}/x"}
	svc.Env = map[string]string{"DB": "{data_dir}/db", "PATH": "/usr/bin:/bin:{data_dir}"}
	svc.Workdir = "sub/{id}"
	p, err := a.prepare(ref1, svc, 31000)
	if err != nil {
		t.Fatal(err)
	}
	spec, err := a.spec(ref1, svc, p, "start-1")
	if err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(a.cfg.DataDir, "web", "one")
	if len(p.socket) > 108 || filepath.Dir(filepath.Dir(p.socket)) != a.cfg.SocketDir || filepath.Base(p.socket) != "s" {
		t.Errorf("socket %s", p.socket)
	}
	if want := []string{"-c", "web one 31000 " + p.socket + " {other}", data + "/x"}; !slices.Equal(spec.Args, want) {
		t.Errorf("args %q, want %q", spec.Args, want)
	}
	want := []string{
		"DB=" + data + "/db", "HOME=" + data, "PATH=/usr/bin:/bin:" + data, "PORT=31000", "SOCKET_PATH=" + p.socket,
		"TENEMENT_DATA_DIR=" + data, "TENEMENT_INSTANCE=one", "TENEMENT_SERVICE=web", "TZ=UTC",
	}
	if !slices.Equal(spec.Env, want) {
		t.Errorf("env %q, want %q", spec.Env, want)
	}
	if spec.Dir != data+"/sub/one" || spec.Path != "/usr/bin/sh" || spec.Start != "start-1" || spec.Ref != ref1 {
		t.Errorf("spec %+v", spec)
	}
	for _, dir := range []string{data, filepath.Dir(p.socket)} {
		if fi, err := os.Stat(dir); err != nil || fi.Mode().Perm() != 0o700 {
			t.Errorf("directory %s: %v, %v", dir, fi, err)
		}
	}
}

func TestLookPath(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"good": 0o700, "text": 0o600} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	for command, want := range map[string]string{
		"good": filepath.Join(dir, "good"), "/not/looked/at": "/not/looked/at",
		"text": `command: got "text", want an executable in PATH=.:` + dir, "none": `command: got "none", want an executable`,
		"./good": `command: got "./good", want an absolute path, or a name in PATH`, "": `command: got "", want an absolute path`,
		"..": `command: got "..", want an executable`,
	} {
		got, err := lookPath(command, ".:"+dir)
		if err != nil {
			got = err.Error()
		}
		if !strings.HasPrefix(got, want) {
			t.Errorf("lookPath(%q): %s, want %s", command, got, want)
		}
	}
}

func leaveSocket(t *testing.T, path string) {
	t.Helper()
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: path})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestOldSocket: one that a former run left is out of the way; a file is not touched,
// nor what a link within the data leads to.
func TestOldSocket(t *testing.T) {
	a := bare(t, noEnv)
	svc := testService(true)
	p, err := a.prepare(ref1, svc, 31000)
	if err != nil {
		t.Fatal(err)
	}
	leaveSocket(t, p.socket)
	if _, err := a.prepare(ref1, svc, 31000); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(p.socket); !os.IsNotExist(err) {
		t.Errorf("the old socket is still there: %v", err)
	}

	svc.Socket = "{data_dir}/precious"
	precious := filepath.Join(p.dataDir, "precious")
	if err := os.WriteFile(precious, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := a.prepare(ref1, svc, 31000); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(precious); err != nil {
		t.Errorf("a file was taken for a socket: %v", err)
	}

	other, err := a.prepare(ref2, testService(true), 31001)
	if err != nil {
		t.Fatal(err)
	}
	leaveSocket(t, filepath.Join(other.dataDir, "s"))
	if err := os.Symlink(other.dataDir, filepath.Join(p.dataDir, "link")); err != nil {
		t.Fatal(err)
	}
	svc.Socket = "link/s"
	if _, err := a.prepare(ref1, svc, 31000); err == nil {
		t.Error("followed a link out of the instance's data")
	}
	if _, err := os.Lstat(filepath.Join(other.dataDir, "s")); err != nil {
		t.Errorf("a neighbour's socket is gone: %v", err)
	}
}

func TestDefaultPath(t *testing.T) {
	a := bare(t, noEnv)
	spec, err := a.spec(api.Ref{Service: "a", ID: "b"}, testService(true), place{dataDir: "/d"}, "")
	if err != nil || !slices.Contains(spec.Env, "PATH="+defaultPath) {
		t.Errorf("env %q, %v", spec.Env, err)
	}
}
