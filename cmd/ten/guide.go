package main

import (
	"cmp"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/tenement-fleet/tenement/api"
)

// serving is what a server that has just begun to answer serves.
type serving struct {
	File      string // the configuration; "" when there is none
	DataDir   string
	Near      string // the data directory as it may be called from where the server was started
	Program   string // how this binary was called
	Domain    string
	Port      int
	Services  []*api.Service
	Instances []api.Ref
	Routes    map[string]string // host or host/path → service
}

// How much the guide lists.
const (
	mostHosts     = 12
	mostInstances = 3 // of a service
)

// guide tells somebody at a terminal where to go from here.
func (a *app) guide(s serving) {
	var b strings.Builder
	b.WriteByte('\n')
	hosts := s.hosts()
	width := 0
	for _, h := range hosts {
		width = max(width, cells(h[0]))
	}
	for _, h := range hosts {
		b.WriteString("  " + h[0] + strings.Repeat(" ", width-cells(h[0])) + "  " + h[1] + "\n")
	}
	if len(hosts) > 0 {
		b.WriteByte('\n')
	}
	file := cmp.Or(s.File, "none found; 'ten init' writes a tenement.toml")
	flag := ""
	if dir, err := a.directory(""); err != nil || dir != s.DataDir {
		flag = " --data-dir " + shellWord(s.Near)
	}
	ten := shellWord(s.Program) + flag
	for _, line := range [][2]string{
		{"config", file},
		{"data", s.DataDir},
		{"API", s.url("", "/api/openapi.json")},
		{"look", "in another terminal: " + ten + " ps"},
		{"token", "for the API: " + ten + " token-gen"},
		{"stop", "Ctrl-C stops the programs and ten; SIGTERM leaves the programs running"},
	} {
		begin := "  " + line[0] + strings.Repeat(" ", 8-len(line[0]))
		b.WriteString(wrap(line[1], a.tableWidth(), begin, strings.Repeat(" ", len(begin))) + "\n")
	}
	_ = a.printf("%s\n", b.String()) // advice that nobody gets is no reason to stop
}

// hosts pairs what can be asked with what answers.
func (s *serving) hosts() [][2]string {
	var out [][2]string
	for _, route := range sortedKeys(s.Routes) {
		out = append(out, [2]string{s.url(route, ""), s.Routes[route] + ", by [routing]"})
	}
	for _, svc := range s.Services {
		n := 0
		for _, ref := range s.Instances {
			if ref.Service != svc.Name {
				continue
			}
			if n++; n <= mostInstances {
				out = append(out, [2]string{s.url(ref.ID+"."+ref.Service+"."+s.Domain, "/"), ref.String()})
			}
		}
		if more := n - mostInstances; more > 0 {
			out = append(out, [2]string{"…", "and " + strconv.Itoa(more) + " more"})
		}
		switch {
		case n > 1:
			out = append(out, [2]string{s.url(svc.Name+"."+s.Domain, "/"), "all instances of " + svc.Name + ", by weight"})
		case n == 0 && svc.SpawnOnRequest:
			out = append(out, [2]string{s.url("ID."+svc.Name+"."+s.Domain, "/"), "makes an instance of " + svc.Name})
		}
	}
	if more := len(out) - mostHosts; more > 0 {
		out = append(out[:mostHosts], [2]string{"…", "and " + strconv.Itoa(more) + " more; see [service] and [routing]"})
	}
	return out
}

// url is the address of a host, by default the root domain.
func (s *serving) url(host, path string) string {
	host, below, _ := strings.Cut(cmp.Or(host, s.Domain), "/")
	if below != "" {
		path = "/" + below
	}
	if s.Port != 80 {
		host = net.JoinHostPort(host, strconv.Itoa(s.Port))
	}
	return "http://" + host + cmp.Or(path, "/")
}

func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
