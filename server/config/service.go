package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tenement-fleet/tenement/api"
)

// defaultPath is where programs are looked for when there is no PATH.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

const wantName = "1 to 63 of a-z 0-9 _ -, the first a letter or digit"

func (l *loader) readServices() {
	path := []string{"service"}
	all := l.asTable(path, l.doc.root["service"])
	for _, name := range sortedKeys(all) {
		at := append(slices.Clone(path), name)
		values, ok := all[name].(map[string]any)
		if !ok {
			l.add(at, shown(all[name]), "a table", fmt.Sprintf("write [%s]", dotted(append(slices.Clone(path), "NAME"))))
			continue
		}
		if s := l.readService(at, values); s != nil {
			l.cfg.Services = append(l.cfg.Services, s)
		}
	}
}

// readService reads one service. It returns it even if something is wrong, so that what
// refers to it makes no problems of its own.
func (l *loader) readService(at []string, values map[string]any) *api.Service {
	s := &api.Service{Name: at[1], Source: api.SourceFile, SpawnOnRequest: true}
	l.applyDefaults(s)
	given := make(map[string]bool)
	before := len(l.problems)
	readTable(l, at, "", values, serviceKeys, s, func(name string) { given[name] = true })
	if _, ok := values["command"]; !ok {
		misspelt := slices.ContainsFunc(sortedKeys(values), func(name string) bool {
			return didYouMean(name, []string{"command"}) != ""
		})
		if !misspelt { // which was reported
			l.add(at, "no command", "a program and its arguments", "")
		}
		s.Command = "x" // so that nothing more is said about it
	}
	sound := len(l.problems) == before
	s.SetDefaults()
	fields, _ := s.Validate().(api.FieldErrors) //nolint:errorlint // Validate returns no other
	for _, fe := range fields {
		sound = l.addField(at, fe, given, values) && sound
	}
	switch {
	case sound && l.elsewhere:
		l.moveTo(at, s)
	case sound:
		l.resolve(at, s)
	}
	return s
}

// addField reports what api's rules say about a service, at the key it came from. It
// returns false when it has.
func (l *loader) addField(at []string, fe api.FieldError, given map[string]bool, values map[string]any) bool {
	path := at
	got := quoted(fe.Got)
	i := slices.IndexFunc(serviceKeys, func(k key[api.Service]) bool {
		return k.field == fe.Field || strings.HasPrefix(fe.Field, k.field+".")
	})
	if i >= 0 {
		name, field := serviceKeys[i].name, serviceKeys[i].field
		entry := strings.TrimPrefix(strings.TrimPrefix(fe.Field, field), ".")
		if !given[name] && isWritten(values, name) {
			return true // reported when it was read
		}
		if !given[name] && slices.ContainsFunc(settingKeys, func(k key[Config]) bool { return k.field == field }) &&
			!partner(field, given) {
			return true // reported as a setting
		}
		path = append(slices.Clone(at), strings.Split(name, ".")...)
		if field == "env" && entry != "" {
			path, got = append(path, entry), "a text with NUL bytes"
		}
	}
	l.add(path, got, fe.Want, "")
	return false
}

// isWritten reports whether the dotted key has a value.
func isWritten(values map[string]any, name string) bool {
	first, rest, deeper := strings.Cut(name, ".")
	v, ok := values[first]
	if below, isTable := v.(map[string]any); deeper && isTable {
		return isWritten(below, rest)
	}
	return ok && !deeper
}

// partner reports whether the field's rule depends on another that the service gives.
func partner(field string, given map[string]bool) bool {
	return field == "backoff_max" && given["backoff_base_ms"]
}

// resolve makes the paths of a service absolute and checks that its program is there.
// What holds a placeholder is left for the start.
func (l *loader) resolve(at []string, s *api.Service) {
	switch s.Isolation {
	case api.IsolationFirecracker, api.IsolationQEMU:
		// The program is within the machine's image.
		s.Kernel, s.Rootfs = l.relative(s.Kernel), l.relative(s.Rootfs)
		return
	}
	if s.Workdir == "" {
		s.Workdir = l.dir
	}
	s.Workdir = l.relative(s.Workdir)
	if !hasPlaceholder(s.Workdir) {
		if fi, err := os.Stat(s.Workdir); err != nil || !fi.IsDir() {
			l.add(append(slices.Clone(at), "workdir"), quoted(s.Workdir)+fileTrouble(fi, err), "a directory", "")
		}
	}
	l.resolveCommand(append(slices.Clone(at), "command"), s)
}

func (l *loader) resolveCommand(at []string, s *api.Service) {
	const want = "a program in PATH, or the path of one"
	if strings.ContainsRune(s.Command, filepath.Separator) {
		s.Command = l.relative(s.Command)
		if hasPlaceholder(s.Command) {
			return
		}
		if trouble, hint := programTrouble(s.Command, s.Isolation); trouble != "" {
			l.add(at, quoted(s.Command)+trouble, want, hint)
		}
		return
	}
	if hasPlaceholder(s.Command) || inPath(s.Command, l.searchPath(s)) {
		return
	}
	// A program beside the file may be named without "./".
	beside := filepath.Join(l.dir, s.Command)
	if trouble, _ := programTrouble(beside, s.Isolation); trouble == "" {
		s.Command = beside
		return
	}
	l.add(at, quoted(s.Command)+", which is neither in PATH nor in "+l.dir, want, "")
}

// searchPath is the PATH that the service's programs will be looked for in.
func (l *loader) searchPath(s *api.Service) string {
	if p := s.Env["PATH"]; p != "" && !hasPlaceholder(p) {
		return p
	}
	if p := l.env["PATH"]; p != "" {
		return p
	}
	return defaultPath
}

func inPath(command, searchPath string) bool {
	return slices.ContainsFunc(filepath.SplitList(searchPath), func(dir string) bool {
		trouble, _ := programTrouble(filepath.Join(dir, command), api.IsolationProcess)
		return filepath.IsAbs(dir) && trouble == ""
	})
}

// programTrouble says what keeps the file from being run, and what to do about it.
func programTrouble(name string, isolation api.Isolation) (trouble, hint string) {
	fi, err := os.Stat(name)
	switch {
	case err != nil || fi.IsDir():
		return fileTrouble(fi, err), ""
	case isolation != api.IsolationWasm && fi.Mode()&0o111 == 0:
		return ", which is not executable", "chmod +x " + name
	default:
		return "", ""
	}
}

// fileTrouble says what is wrong with a path, given what Stat returned.
func fileTrouble(fi fs.FileInfo, err error) string {
	pathErr, _ := errors.AsType[*fs.PathError](err)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return ", which does not exist"
	case pathErr != nil:
		return ", which can't be read: " + pathErr.Err.Error()
	case err != nil:
		return ", which can't be read: " + err.Error()
	case fi.IsDir():
		return ", which is a directory"
	default:
		return ", which is a file"
	}
}

// relative makes a path of the file absolute, unless it is empty or starts with a placeholder.
func (l *loader) relative(name string) string {
	if name == "" || strings.HasPrefix(name, "{") && hasPlaceholder(name) {
		return name
	}
	return l.abs(l.dir, name)
}

// hasPlaceholder reports whether expansion would change the text.
func hasPlaceholder(s string) bool {
	return api.Expand(s, api.Ref{}, "", 0, "") != s
}

func (l *loader) readInstances() {
	path := []string{"instances"}
	all := l.asTable(path, l.doc.root["instances"])
	for _, name := range sortedKeys(all) {
		at := append(slices.Clone(path), name)
		service := l.service(name)
		if service == nil {
			l.add(at, quoted(name), "the name of a service", didYouMean(name, l.serviceNames()))
			continue
		}
		ids, ok := all[name].([]any)
		if !ok {
			l.add(at, shown(all[name]), "a list of ids in quotes", "")
			continue
		}
		l.readIDs(at, service, ids)
	}
}

func (l *loader) readIDs(at []string, service *api.Service, ids []any) {
	first := make(map[string]int, len(ids))
	for i, v := range ids {
		id, ok := v.(string)
		if !ok || !api.ValidName(id) {
			l.add(append(slices.Clone(at), index(i)), shown(v), "an id in quotes: "+wantName, "")
			continue
		}
		if _, twice := first[id]; twice {
			l.add(append(slices.Clone(at), index(i)), quoted(id)+" a second time", "each id once", "")
			continue
		}
		first[id] = i
		l.cfg.Instances = append(l.cfg.Instances, api.Ref{Service: service.Name, ID: id})
	}
	if len(ids) > service.MaxInstances {
		l.add(at, fmt.Sprintf("%d ids", len(ids)), fmt.Sprintf("at most %d, the service's max_instances", service.MaxInstances), "")
	}
}

func (l *loader) service(name string) *api.Service {
	for _, s := range l.cfg.Services {
		if s.Name == name {
			return s
		}
	}
	return nil
}

func (l *loader) serviceNames() []string {
	var out []string
	for _, s := range l.cfg.Services {
		out = append(out, s.Name)
	}
	return out
}

// checkSockets reports instances that would listen on the same socket.
func (l *loader) checkSockets() {
	owner := make(map[string]string)
	for _, s := range l.cfg.Services {
		if !filepath.IsAbs(s.Socket) || strings.Contains(s.Socket, "{data_dir}") {
			continue // below the instance's own data
		}
		at := []string{"service", s.Name, "socket"}
		socket := strings.ReplaceAll(filepath.Clean(s.Socket), "{name}", s.Name)
		if other, taken := owner[socket]; taken {
			l.add(at, quoted(s.Socket), "a socket of its own", fmt.Sprintf("service.%s has the same", other))
			continue
		}
		owner[socket] = s.Name
		several := 0
		for _, ref := range l.cfg.Instances {
			if ref.Service == s.Name {
				several++
			}
		}
		if several > 1 && !strings.Contains(s.Socket, "{id}") && !strings.Contains(s.Socket, "{port}") {
			l.add(at, quoted(s.Socket)+fmt.Sprintf(" for %d instances", several), "a socket for each instance", "put {id} into it")
		}
	}
}
