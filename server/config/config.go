// Package config turns tenement.toml, TENEMENT_* variables and flags into api types.
//
// Everything that is wrong is found before anything is started, and reported together:
// [Load] returns [Problems] with file, line, key, what came and what is allowed.
// A flag beats a variable, a variable the file, the file the default.
package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// The defaults of what is not a field of a service.
const (
	DefaultPort       = 8080
	DefaultGossipPort = 7946
	DefaultPeerPort   = 7947
	// DefaultOvercommit is large because most instances sleep most of the time.
	DefaultOvercommit = 16
	DefaultDomain     = "localhost"
	DefaultLogMaxAge  = api.Duration(7 * 24 * time.Hour)
	DefaultLogMaxSize = api.GiB
	rootDataDir       = "/var/lib/tenement"
	fileName          = "tenement.toml"
)

// Config is everything that ten serve is told.
type Config struct {
	File    string `json:"file,omitempty"` // absolute; empty: there was none
	DataDir string `json:"data_dir"`       // absolute
	Bind    string `json:"bind,omitempty"` // address to listen on; empty: all of them
	Port    int    `json:"port"`           // 0: any free one
	Domain  string `json:"domain"`
	TLS     TLS    `json:"tls"`

	// TLSPort is where the same is served with a certificate of the cluster's CA, for
	// TLSNames too; 0: nowhere.
	TLSPort  int      `json:"tls_port,omitempty"`
	TLSNames []string `json:"tls_names,omitempty"`

	MaxConcurrentStarts int          `json:"max_concurrent_starts"` // 0: by the number of cores
	LogMaxAge           api.Duration `json:"log_max_age"`
	LogMaxSize          api.Size     `json:"log_max_size"`

	Cluster Cluster `json:"cluster"`

	Defaults  Defaults       `json:"defaults"`
	Services  []*api.Service `json:"services,omitempty"` // by name; defaults filled in, valid
	Instances []api.Ref      `json:"instances,omitempty"`
	Routing   Routing        `json:"routing"`

	// Warnings are for the log: nothing that stands in the way of a start.
	Warnings []string `json:"warnings,omitempty"`
}

// TLS is settings.tls.
type TLS struct {
	Enabled   bool   `json:"enabled"`
	ACMEEmail string `json:"acme_email,omitempty"`
	Domain    string `json:"domain,omitempty"`
	Staging   bool   `json:"staging,omitempty"`
}

// Cluster is what a server is told about the other servers.
type Cluster struct {
	Join            []string          `json:"join,omitempty"`        // host:port of peer ports
	SecretFile      string            `json:"secret_file,omitempty"` // absolute; empty: the server's own
	TokenFile       string            `json:"token_file,omitempty"`  // absolute
	BootstrapExpect int               `json:"bootstrap_expect,omitempty"`
	NodeName        string            `json:"node_name,omitempty"` // empty: the host's
	PeerPort        int               `json:"peer_port"`           // 0: any free one
	GossipPort      int               `json:"gossip_port"`         // 0: any free one
	Advertise       string            `json:"advertise,omitempty"` // a host; empty: found out
	Region          string            `json:"region,omitempty"`
	Zone            string            `json:"zone,omitempty"`
	Provider        string            `json:"provider,omitempty"`
	Labels          map[string]string `json:"labels,omitempty"`
	// What the limits of the instances on this server may add up to, as a multiple of
	// what the server has; 0 is no bound.
	MemoryOvercommit int `json:"memory_overcommit"`
	CPUOvercommit    int `json:"cpu_overcommit"`
}

// Defaults are the settings that a service has unless it says otherwise.
type Defaults struct {
	HealthInterval api.Duration `json:"health_interval"`
	MaxRestarts    int          `json:"max_restarts"` // -1: none
	RestartWindow  api.Duration `json:"restart_window"`
	BackoffBase    api.Duration `json:"backoff_base"`
	BackoffMax     api.Duration `json:"backoff_max"`
}

// Routing says which services serve the root domain, its subdomains and its paths,
// besides the hosts that services and instances have of their own.
type Routing struct {
	Default   string            `json:"default,omitempty"`
	Subdomain map[string]string `json:"subdomain,omitempty"`
	Path      map[string]string `json:"path,omitempty"`
}

// Options are what Load starts from.
type Options struct {
	File  string   // --config; empty: TENEMENT_CONFIG, else the usual places
	Flags Flags    // what the command line says
	Env   []string // as os.Environ returns it
	Root  bool     // runs as root: state belongs in /var/lib
	Dir   string   // working directory; empty: the process's
}

// Flags are the settings that a command line can give. Zero values were not given.
type Flags struct {
	DataDir string
	Bind    string
	Port    *int
	Domain  string
	TLS     bool
	Email   string
	Staging bool

	TLSPort  *int
	TLSNames []string

	Join            []string
	SecretFile      string
	TokenFile       string
	BootstrapExpect *int
	NodeName        string
	PeerPort        *int
	GossipPort      *int
	Advertise       string
}

// texts returns the flags that were given, by the setting they stand for.
func (f Flags) texts() map[string]flagText {
	out := make(map[string]flagText)
	add := func(setting, flag, text string) {
		if text != "" {
			out[setting] = flagText{flag, text}
		}
	}
	add("data_dir", "--data-dir", f.DataDir)
	add("bind", "--bind", f.Bind)
	add("domain", "--domain", f.Domain)
	add("tls.acme_email", "--email", f.Email)
	add("tls_names", "--tls-name", strings.Join(f.TLSNames, ","))
	add("join", "--join", strings.Join(f.Join, ","))
	add("secret_file", "--secret-file", f.SecretFile)
	add("token_file", "--token-file", f.TokenFile)
	add("node_name", "--node-name", f.NodeName)
	add("advertise", "--advertise", f.Advertise)
	number := func(setting, flag string, n *int) {
		if n != nil {
			add(setting, flag, strconv.Itoa(*n))
		}
	}
	number("port", "--port", f.Port)
	number("tls_port", "--tls-port", f.TLSPort)
	number("bootstrap_expect", "--bootstrap-expect", f.BootstrapExpect)
	number("peer_port", "--peer-port", f.PeerPort)
	number("gossip_port", "--gossip-port", f.GossipPort)
	if f.TLS {
		add("tls.enabled", "--tls", "true")
	}
	if f.Staging {
		add("tls.staging", "--staging", "true")
	}
	return out
}

type flagText struct{ flag, text string }

// Load reads the configuration. Its error is [Problems]. No file at all is fine, unless
// one was asked for.
func Load(o Options) (*Config, error) {
	l := newLoader(o)
	l.readFile()
	return l.load()
}

// load reads everything out of the parsed file, variables and flags.
func (l *loader) load() (*Config, error) {
	l.readSettings()
	l.readServices()
	l.readInstances()
	l.readRouting()
	l.checkSockets()
	l.cfg.Warnings = l.warnings()
	if err := l.problems.err(); err != nil {
		return nil, err
	}
	return l.cfg, nil
}

// DataDir returns the data directory that Load would find, whatever else may be wrong
// with the configuration: a command that only looks for the server's socket and token
// there has no use for the rest.
func DataDir(o Options) (string, error) {
	l := newLoader(o)
	l.readFile()
	if err := l.problems.err(); err != nil {
		return "", err
	}
	l.readSettings()
	for _, p := range l.problems {
		if p.setting == "data_dir" {
			return "", Problems{p}
		}
	}
	return l.cfg.DataDir, nil
}

// loader is one Load under way.
type loader struct {
	o    Options
	env  map[string]string
	dir  string // of the file: what relative paths in it start from
	doc  *document
	cfg  *Config
	from map[string]origin // setting → where its value came from

	elsewhere bool // the file is another machine's

	problems Problems
}

// origin is where a setting was given.
type origin struct {
	line int    // in the file
	name string // variable or flag; empty: the file
}

func newLoader(o Options) *loader {
	if o.Dir == "" {
		o.Dir, _ = os.Getwd() // "" leaves paths relative, which works as well
	}
	l := &loader{
		o: o, dir: o.Dir, doc: emptyDocument(),
		env: make(map[string]string, len(o.Env)), from: make(map[string]origin),
	}
	for _, kv := range o.Env {
		if name, v, ok := strings.Cut(kv, "="); ok && v != "" {
			l.env[name] = v
		}
	}
	l.cfg = &Config{
		Port: DefaultPort, Domain: DefaultDomain, DataDir: l.defaultDataDir(),
		LogMaxAge: DefaultLogMaxAge, LogMaxSize: DefaultLogMaxSize,
		Cluster: Cluster{
			PeerPort: DefaultPeerPort, GossipPort: DefaultGossipPort,
			MemoryOvercommit: DefaultOvercommit, CPUOvercommit: DefaultOvercommit,
		},
	}
	var s api.Service
	s.SetDefaults()
	l.cfg.Defaults = Defaults{s.HealthInterval, s.MaxRestarts, s.RestartWindow, s.BackoffBase, s.BackoffMax}
	return l
}

// xdg returns an XDG base directory: the variable's if it is absolute, as the
// specification asks, else that below the home directory; "" when there is no home.
func (l *loader) xdg(variable, below string) string {
	if dir := l.env[variable]; filepath.IsAbs(dir) {
		return dir
	}
	if home := l.env["HOME"]; home != "" {
		return filepath.Join(home, below)
	}
	return ""
}

func (l *loader) defaultDataDir() string {
	if l.o.Root {
		return rootDataDir
	}
	if dir := l.xdg("XDG_DATA_HOME", ".local/share"); dir != "" {
		return filepath.Join(dir, "tenement")
	}
	return rootDataDir
}

// findFile returns the file to read: the one that was asked for, else one that is there;
// "" when there is none.
func (l *loader) findFile() string {
	if l.o.File != "" {
		return l.abs(l.o.Dir, l.o.File)
	}
	if name := l.env["TENEMENT_CONFIG"]; name != "" {
		return l.abs(l.o.Dir, name)
	}
	places := []string{filepath.Join(l.o.Dir, fileName)}
	if dir := l.xdg("XDG_CONFIG_HOME", ".config"); dir != "" {
		places = append(places, filepath.Join(dir, "tenement", fileName))
	}
	places = append(places, filepath.Join("/etc/tenement", fileName))
	for _, name := range places {
		if _, err := os.Stat(name); err == nil {
			return name
		}
	}
	return ""
}

func (l *loader) abs(dir, name string) string {
	if filepath.IsAbs(name) {
		return filepath.Clean(name)
	}
	return filepath.Join(dir, name)
}

func (l *loader) readFile() {
	name := l.findFile()
	if name == "" {
		return
	}
	data, err := os.ReadFile(name) //nolint:gosec // the file that the operator named
	if err != nil {
		p := Problem{File: name, Got: err.Error(), Want: "a file that can be read"}
		if errors.Is(err, fs.ErrNotExist) {
			p.Got, p.Hint = "no such file", "'ten init --config "+name+"' writes one"
		}
		l.problems = append(l.problems, p)
		return
	}
	l.parse(name, data)
}

// parse takes in the file.
func (l *loader) parse(name string, data []byte) {
	l.cfg.File, l.dir = name, filepath.Dir(name)
	doc, problem := parseDocument(data)
	if problem != nil {
		problem.File = name
		l.problems = append(l.problems, *problem)
		return
	}
	l.doc = doc
	for _, table := range sortedKeys(doc.root) {
		if !slices.Contains(tables, table) {
			l.unknown([]string{table}, tables)
		}
	}
}

// tables are the tables of tenement.toml.
var tables = []string{"settings", "cluster", "service", "instances", "routing"}
