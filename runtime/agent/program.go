package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/runtime/driver"
)

// defaultPath is where programs are looked for when ten itself has no PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// specSum identifies what a program is started from: a change of it needs a restart to
// take effect, a change of any other field of the service applies at once. Fields that
// join must have omitempty, or a new version of ten would restart every instance.
func specSum(svc *api.Service) string {
	b, err := json.Marshal(struct {
		Command     string
		Args        []string
		Workdir     string
		Env         map[string]string
		Socket      string
		Isolation   api.Isolation
		MemoryLimit api.Size
		CPUShares   int
		Kernel      string
		Rootfs      string
		Memory      api.Size
		VCPUs       int
		VsockPort   int
	}{
		svc.Command, svc.Args, svc.Workdir, svc.Env, svc.Socket, svc.Isolation, svc.MemoryLimit,
		svc.CPUShares, svc.Kernel, svc.Rootfs, svc.Memory, svc.VCPUs, svc.VsockPort,
	})
	if err != nil {
		return "" // can't be: nothing in it refuses to be encoded
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

// dataPath is an instance's data directory, relative to DataDir.
func dataPath(ref api.Ref) string { return path.Join(ref.Service, ref.ID) }

// socketPath is where an instance may listen when its service names no socket: short,
// whatever the names, because a socket's path must fit 108 bytes.
func (a *Agent) socketPath(ref api.Ref) string {
	sum := sha256.Sum256([]byte(ref.String()))
	return filepath.Join(a.cfg.SocketDir, hex.EncodeToString(sum[:8]), "s")
}

// place is where one run of a program lives.
type place struct {
	dataDir string // absolute
	port    int
	socket  string
}

// prepare makes the directories of a run and gets a former run's socket out of the way.
func (a *Agent) prepare(ref api.Ref, svc *api.Service, port int) (place, error) {
	p := place{dataDir: filepath.Join(a.cfg.DataDir, ref.Service, ref.ID), port: port}
	if err := a.data.MkdirAll(dataPath(ref), 0o700); err != nil {
		return p, fmt.Errorf("prepare data directory: %w", err)
	}
	p.socket = a.socketPath(ref)
	if svc.Socket != "" {
		p.socket = api.Expand(svc.Socket, ref, p.dataDir, port, p.socket)
		if !filepath.IsAbs(p.socket) {
			p.socket = filepath.Join(p.dataDir, p.socket)
		}
	} else if err := os.MkdirAll(filepath.Dir(p.socket), 0o700); err != nil {
		return p, fmt.Errorf("prepare socket: %w", err)
	}
	return p, a.removeSocket(ref, p.socket)
}

// removeSocket removes a socket, and nothing else that may stand in its place. Within
// the instance's data, where the program decides what the directories are, it follows
// no link that leads out.
func (a *Agent) removeSocket(ref api.Ref, name string) error {
	lstat, remove := os.Lstat, os.Remove
	if rel, err := filepath.Rel(filepath.Join(a.cfg.DataDir, ref.Service, ref.ID), name); err == nil && filepath.IsLocal(rel) {
		root, err := a.data.OpenRoot(dataPath(ref))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("remove old socket: %w", err)
		}
		defer func() { _ = root.Close() }()
		name, lstat, remove = rel, root.Lstat, root.Remove
	}
	fi, err := lstat(name)
	if err == nil && fi.Mode().Type() == fs.ModeSocket {
		err = remove(name)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove old socket: %w", err)
	}
	return nil
}

// removeSocketDir removes the directory of the default socket. It stays until the
// instance is removed, because making it anew is what a wake can do without.
func (a *Agent) removeSocketDir(ref api.Ref) error {
	if err := os.RemoveAll(filepath.Dir(a.socketPath(ref))); err != nil {
		return fmt.Errorf("remove socket directory: %w", err)
	}
	return nil
}

// spec is the program as the driver is to start it, but for its output.
func (a *Agent) spec(ref api.Ref, svc *api.Service, p place, start string) (driver.Spec, error) {
	expand := func(text string) string { return api.Expand(text, ref, p.dataDir, p.port, p.socket) }
	env := a.environment(ref, svc, p, expand)
	spec := driver.Spec{Ref: ref, Start: start, Dir: p.dataDir}
	for _, name := range slices.Sorted(maps.Keys(env)) {
		spec.Env = append(spec.Env, name+"="+env[name])
	}
	for _, arg := range svc.Args {
		spec.Args = append(spec.Args, expand(arg))
	}
	if svc.Workdir != "" {
		spec.Dir = expand(svc.Workdir)
		if !filepath.IsAbs(spec.Dir) {
			spec.Dir = filepath.Join(p.dataDir, spec.Dir)
		}
	}
	var err error
	spec.Path, err = lookPath(expand(svc.Command), env["PATH"])
	return spec, err
}

// environment has nothing of ten's own but what is listed here.
func (a *Agent) environment(ref api.Ref, svc *api.Service, p place, expand func(string) string) map[string]string {
	env := map[string]string{
		"PATH":              a.cfg.Getenv("PATH"),
		"HOME":              p.dataDir,
		"PORT":              strconv.Itoa(p.port),
		"SOCKET_PATH":       p.socket,
		"TENEMENT_SERVICE":  ref.Service,
		"TENEMENT_INSTANCE": ref.ID,
		"TENEMENT_DATA_DIR": p.dataDir,
	}
	if env["PATH"] == "" {
		env["PATH"] = defaultPath
	}
	for _, name := range []string{"LANG", "TZ"} {
		if v := a.cfg.Getenv(name); v != "" {
			env[name] = v
		}
	}
	for name, v := range svc.Env {
		env[name] = expand(v)
	}
	return env
}

// lookPath finds a program: an absolute path as it is, a bare name in the directories of
// searchPath.
func lookPath(command, searchPath string) (string, error) {
	if filepath.IsAbs(command) {
		return command, nil
	}
	if command == "" || filepath.Base(command) != command {
		return "", &api.FieldError{Field: "command", Got: command, Want: "an absolute path, or a name in PATH"}
	}
	for _, dir := range filepath.SplitList(searchPath) {
		if !filepath.IsAbs(dir) {
			continue // "." would be the program's directory, under its own control
		}
		full := filepath.Join(dir, command)
		if fi, err := os.Stat(full); err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0 {
			return full, nil
		}
	}
	return "", &api.FieldError{Field: "command", Got: command, Want: "an executable in PATH=" + searchPath}
}
