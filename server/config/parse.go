package config

import (
	"path"
	"slices"
	"strings"

	"github.com/tenement-fleet/tenement/api"
)

// Parse reads a tenement.toml that is another machine's: its services and instances. It is
// held against every rule but those that only that machine can tell: whether programs and
// directories are there. Relative paths start from dir, the file's directory there; with
// an empty dir they stay as they are. Its error is [Problems].
func Parse(data []byte, dir string) ([]*api.Service, []api.Ref, error) {
	l := newLoader(Options{Root: true, Dir: "/"})
	l.elsewhere = true
	l.parse(fileName, data)
	l.dir = dir
	cfg, err := l.load()
	if err != nil {
		return nil, nil, err
	}
	return cfg.Services, cfg.Instances, nil
}

// moveTo makes the paths of a service start from the file's directory on another machine,
// whose paths have slashes.
func (l *loader) moveTo(at []string, s *api.Service) {
	if l.dir != "" && !path.IsAbs(l.dir) {
		l.add(at, quoted(l.dir), "an absolute path as the file's directory", "")
		return
	}
	join := func(name *string) {
		if *name == "" || l.dir == "" || path.IsAbs(*name) || strings.HasPrefix(*name, "{") && hasPlaceholder(*name) {
			return
		}
		*name = path.Join(l.dir, *name)
	}
	if slices.Contains([]api.Isolation{api.IsolationFirecracker, api.IsolationQEMU}, s.Isolation) {
		join(&s.Kernel)
		join(&s.Rootfs)
		return
	}
	if s.Workdir == "" {
		s.Workdir = l.dir
	}
	join(&s.Workdir)
	if strings.Contains(s.Command, "/") {
		join(&s.Command)
	}
}
