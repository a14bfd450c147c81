package api

import (
	"fmt"
	"maps"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Isolation is how strongly an instance is set apart from its node and its neighbours.
type Isolation string

// The isolation levels, weakest first. A level that this build or machine lacks is an
// error that names it, never a silent fall back to a weaker one.
const (
	IsolationProcess     Isolation = "process"     // a bare process: for trusted code
	IsolationNamespace   Isolation = "namespace"   // pid, mount, ipc and uts namespaces, own /proc
	IsolationSandbox     Isolation = "sandbox"     // gVisor
	IsolationWasm        Isolation = "wasm"        // a WebAssembly runtime
	IsolationFirecracker Isolation = "firecracker" // a Firecracker microVM
	IsolationQEMU        Isolation = "qemu"        // a QEMU microVM
)

// DefaultIsolation is the level of a service that names none.
const DefaultIsolation = IsolationNamespace

// Isolations lists every level that a service may ask for.
func Isolations() []Isolation {
	return []Isolation{
		IsolationProcess, IsolationNamespace, IsolationSandbox,
		IsolationWasm, IsolationFirecracker, IsolationQEMU,
	}
}

// RestartPolicy says when an instance whose program ended is started again.
type RestartPolicy string

// The restart policies.
const (
	RestartAlways    RestartPolicy = "always"     // whatever the exit code
	RestartOnFailure RestartPolicy = "on-failure" // a non-zero or unknown exit, or a failed health check
	RestartNever     RestartPolicy = "never"      // the instance is stopped (exit 0) or failed
)

// RestartPolicies lists every policy.
func RestartPolicies() []RestartPolicy {
	return []RestartPolicy{RestartAlways, RestartOnFailure, RestartNever}
}

// Source says who declared an object, and so who may take it away.
type Source string

// The sources.
const (
	SourceAPI     Source = "api"     // a client of the HTTP API
	SourceFile    Source = "file"    // tenement.toml; gone from the file means removed
	SourceRequest Source = "request" // created by the first request for its host
	SourceFleet   Source = "fleet"   // a member of a fleet, made and removed with its replicas
)

// Sources lists every source.
func Sources() []Source { return []Source{SourceAPI, SourceFile, SourceRequest, SourceFleet} }

// Defaults of a Service; see [Service.SetDefaults].
const (
	DefaultStartupTimeout = Duration(10 * time.Second)
	DefaultRequestTimeout = Duration(30 * time.Second)
	DefaultStopTimeout    = Duration(10 * time.Second)
	DefaultHealthInterval = Duration(10 * time.Second)
	DefaultMaxRestarts    = 3
	DefaultRestartWindow  = Duration(300 * time.Second)
	DefaultBackoffBase    = Duration(time.Second)
	DefaultBackoffMax     = Duration(time.Minute)
	DefaultMaxInstances   = 1000
)

// Service is a named template of instances. Every change makes a new Revision.
//
// Command, Args, Workdir, Socket and the values of Env may hold the placeholders
// {name} {id} {data_dir} {port} {socket}, which are replaced for each instance.
type Service struct {
	Name string `json:"name"`
	// Command is the program: a name looked up in PATH, or a path. When Args is null,
	// SetDefaults splits Command as a shell splits words.
	Command string            `json:"command"`
	Args    []string          `json:"args"`
	Workdir string            `json:"workdir,omitempty"`
	Env     map[string]string `json:"env,omitempty"`
	// SecretEnv names the variables of Env whose values nobody but the programs is told,
	// see [Service.Redacted].
	SecretEnv []string `json:"secret_env,omitempty"`
	// Socket is the path of a unix socket on which the program listens instead of
	// PORT; empty means {data_dir}'s own socket path, see SOCKET_PATH.
	Socket string `json:"socket,omitempty"`
	// Health is the HTTP path whose 200 means healthy; empty checks that it accepts connections.
	Health         string    `json:"health,omitempty"`
	HealthInterval Duration  `json:"health_interval"`
	Isolation      Isolation `json:"isolation"`
	// IdleTimeout puts an instance to sleep after that long without an open request; 0 never.
	IdleTimeout    Duration `json:"idle_timeout"`
	StartupTimeout Duration `json:"startup_timeout"`
	// RequestTimeout bounds the time to the first byte of a response.
	RequestTimeout Duration `json:"request_timeout"`
	// StopTimeout is the grace between SIGTERM and SIGKILL.
	StopTimeout Duration      `json:"stop_timeout"`
	Restart     RestartPolicy `json:"restart"`
	// MaxRestarts within RestartWindow are allowed; one more and the instance is failed.
	// -1 allows none (0 is unset).
	MaxRestarts   int      `json:"max_restarts"`
	RestartWindow Duration `json:"restart_window"`
	BackoffBase   Duration `json:"backoff_base"`
	BackoffMax    Duration `json:"backoff_max"`

	MemoryLimit    Size  `json:"memory_limit,omitempty"` // bytes; 0 unlimited
	CPUShares      int   `json:"cpu_shares,omitempty"`   // cgroup v2 weight, 1..10000; 0 unset
	StorageQuota   Size  `json:"storage_quota,omitempty"`
	StoragePersist *bool `json:"storage_persist,omitempty"` // default true

	Kernel    string `json:"kernel,omitempty"` // microVM
	Rootfs    string `json:"rootfs,omitempty"`
	Memory    Size   `json:"memory,omitempty"` // microVM
	VCPUs     int    `json:"vcpus,omitempty"`
	VsockPort int    `json:"vsock_port,omitempty"`

	// SpawnOnRequest lets a request for an unknown id create that instance.
	SpawnOnRequest bool `json:"spawn_on_request"`
	MaxInstances   int  `json:"max_instances"`

	// Placement says which nodes may run its instances, and which do so best.
	Placement *PlacementRules `json:"placement,omitempty"`
	// OnDisconnect says what becomes of its instances on a node that is cut off; empty means
	// replace.
	OnDisconnect OnDisconnect `json:"on_disconnect,omitempty"`

	Source Source `json:"source"`
	// SourceNode is the id of the node whose file declared it, for SourceFile.
	SourceNode string `json:"source_node,omitempty"`
	// Revision is the state's index of the last change: unique, growing, the ETag of the
	// object. CreatedAt and UpdatedAt come with the command that wrote them. All are
	// set by the cluster and ignored on input.
	Revision  uint64    `json:"revision,omitempty"`
	CreatedAt time.Time `json:"created_at,omitzero"`
	UpdatedAt time.Time `json:"updated_at,omitzero"`
}

// SetDefaults fills every unset field with its default and brings Command and Args into
// their canonical form: Args is never null. A Command that can't be split stays as it
// is, for Validate to report.
func (s *Service) SetDefaults() {
	if s.Args == nil {
		if words, err := SplitWords(s.Command); err == nil && len(words) > 0 {
			s.Command, s.Args = words[0], words[1:]
		}
	}
	s.SecretEnv = slices.Compact(slices.Sorted(slices.Values(s.SecretEnv))) // the caller's stays as it is
	setDefault(&s.Isolation, DefaultIsolation)
	setDefault(&s.HealthInterval, DefaultHealthInterval)
	setDefault(&s.StartupTimeout, DefaultStartupTimeout)
	setDefault(&s.RequestTimeout, DefaultRequestTimeout)
	setDefault(&s.StopTimeout, DefaultStopTimeout)
	setDefault(&s.Restart, RestartAlways)
	setDefault(&s.MaxRestarts, DefaultMaxRestarts)
	setDefault(&s.RestartWindow, DefaultRestartWindow)
	setDefault(&s.BackoffBase, DefaultBackoffBase)
	setDefault(&s.BackoffMax, DefaultBackoffMax)
	setDefault(&s.MaxInstances, DefaultMaxInstances)
	setDefault(&s.Source, SourceAPI)
	if s.Placement.IsZero() {
		s.Placement = nil
	}
	if s.OnDisconnect == DisconnectReplace {
		s.OnDisconnect = "" // what older members of the cluster understand
	}
	if s.StoragePersist == nil {
		yes := true
		s.StoragePersist = &yes
	}
}

func setDefault[T comparable](p *T, v T) {
	var zero T
	if *p == zero {
		*p = v
	}
}

// Validate checks a service after SetDefaults. Every broken rule is one entry of the
// returned FieldErrors.
func (s *Service) Validate() error {
	var c fieldChecks
	c.name("name", s.Name)
	check(&c, !ReservedName(s.Name), "name", s.Name, "a name that ten does not use itself in its data directory")
	check(&c, s.Command != "" && s.Args != nil, "command", s.Command, "a program and its arguments, quotes balanced")
	check(&c, !hasNUL(s.Command), "command", s.Command, "text without NUL bytes")
	check(&c, !slices.ContainsFunc(s.Args, hasNUL), "args", s.Args, "text without NUL bytes")
	for _, k := range slices.Sorted(maps.Keys(s.Env)) {
		check(&c, k != "" && !strings.ContainsAny(k, "=\x00"), "env", k, "names without = or NUL")
		check(&c, !hasNUL(s.Env[k]), "env."+k, "(hidden)", "text without NUL bytes")
	}
	for _, k := range s.SecretEnv {
		_, ok := s.Env[k]
		check(&c, ok, "secret_env", k, "names that are in env")
	}
	check(&c, !hasNUL(s.Workdir), "workdir", s.Workdir, "a path without NUL bytes")
	check(&c, !hasNUL(s.Socket), "socket", s.Socket, "a path without NUL bytes")
	check(&c, validHealth(s.Health), "health", s.Health, "an HTTP path that starts with /")
	check(&c, slices.Contains(Isolations(), s.Isolation), "isolation", s.Isolation, oneOf[Isolation](Isolations()))
	check(&c, slices.Contains(RestartPolicies(), s.Restart), "restart", s.Restart, oneOf[RestartPolicy](RestartPolicies()))
	check(&c, slices.Contains(Sources(), s.Source), "source", s.Source, oneOf[Source](Sources()))
	check(&c, slices.Contains(OnDisconnects(), s.Disconnect()), "on_disconnect", s.OnDisconnect, oneOf[OnDisconnect](OnDisconnects()))
	s.Placement.check(&c)
	s.validateTimes(&c)
	s.validateAmounts(&c)
	return c.err()
}

func (s *Service) validateTimes(c *fieldChecks) {
	const year = Duration(365 * 24 * time.Hour)
	for _, f := range []struct {
		name string
		got  Duration
		min  Duration
	}{
		{"health_interval", s.HealthInterval, Duration(100 * time.Millisecond)},
		{"idle_timeout", s.IdleTimeout, 0},
		{"startup_timeout", s.StartupTimeout, Duration(time.Millisecond)},
		{"request_timeout", s.RequestTimeout, Duration(time.Millisecond)},
		{"stop_timeout", s.StopTimeout, Duration(time.Millisecond)},
		{"restart_window", s.RestartWindow, Duration(time.Millisecond)},
		{"backoff_base", s.BackoffBase, Duration(time.Millisecond)},
		{"backoff_max", s.BackoffMax, s.BackoffBase},
	} {
		check(c, f.min <= f.got && f.got <= year, f.name, f.got, durationRange{f.min, year})
	}
}

func (s *Service) validateAmounts(c *fieldChecks) {
	check(c, s.MaxRestarts >= -1 && s.MaxRestarts <= 1000, "max_restarts", s.MaxRestarts, "-1 (none) to 1000")
	check(c, s.MemoryLimit >= 0, "memory_limit", s.MemoryLimit, "0 (unlimited) or more")
	check(c, s.CPUShares >= 0 && s.CPUShares <= 10000, "cpu_shares", s.CPUShares, "1 to 10000, or 0 for unset")
	check(c, s.StorageQuota >= 0, "storage_quota", s.StorageQuota, "0 (unlimited) or more")
	check(c, s.Memory >= 0, "memory", s.Memory, "0 or more")
	check(c, s.VCPUs >= 0 && s.VCPUs <= 256, "vcpus", s.VCPUs, "0 to 256")
	check(c, s.VsockPort >= 0 && s.VsockPort <= 65535, "vsock_port", s.VsockPort, "0 to 65535")
	check(c, s.MaxInstances >= 1 && s.MaxInstances <= 1_000_000, "max_instances", s.MaxInstances, "1 to 1000000")
}

// Equal reports whether two services are the same specification: every field that a
// user may write, whatever their Revision and times.
func (s *Service) Equal(o *Service) bool {
	// What has to be compared by meaning first: the rest needs copies.
	if !maps.Equal(s.Env, o.Env) || !slices.Equal(s.Args, o.Args) || s.Persist() != o.Persist() {
		return false
	}
	if !slices.Equal(s.SecretEnv, o.SecretEnv) || !s.Placement.Equal(o.Placement) || s.Disconnect() != o.Disconnect() {
		return false
	}
	a, b := *s, *o
	a.Revision, b.Revision = 0, 0
	a.CreatedAt, b.CreatedAt = time.Time{}, time.Time{}
	a.UpdatedAt, b.UpdatedAt = time.Time{}, time.Time{}
	a.Env, b.Env, a.Args, b.Args, a.StoragePersist, b.StoragePersist = nil, nil, nil, nil, nil, nil
	a.SecretEnv, b.SecretEnv, a.Placement, b.Placement, a.OnDisconnect, b.OnDisconnect = nil, nil, nil, nil, "", ""
	return reflect.DeepEqual(a, b)
}

// Clone returns a deep copy.
func (s *Service) Clone() *Service {
	c := *s
	c.Args = slices.Clone(s.Args)
	c.Env = maps.Clone(s.Env)
	c.SecretEnv = slices.Clone(s.SecretEnv)
	if s.StoragePersist != nil {
		v := *s.StoragePersist
		c.StoragePersist = &v
	}
	c.Placement = s.Placement.Clone()
	return &c
}

// Redacted returns the service as it is shown: Env without the values of SecretEnv. It is
// s itself if there are none.
func (s *Service) Redacted() *Service {
	if len(s.SecretEnv) == 0 {
		return s
	}
	c := *s
	c.Env = maps.Clone(s.Env)
	for _, k := range s.SecretEnv {
		delete(c.Env, k)
	}
	return &c
}

// KeepSecrets undoes [Service.Redacted]: a variable that is named in SecretEnv and is not
// in Env gets the value that it has in old, if any.
func (s *Service) KeepSecrets(old *Service) {
	for _, k := range s.SecretEnv {
		value, ok := old.Env[k]
		if _, given := s.Env[k]; given || !ok {
			continue
		}
		if s.Env == nil {
			s.Env = make(map[string]string)
		}
		s.Env[k] = value
	}
}

// Disconnect returns OnDisconnect or its default.
func (s *Service) Disconnect() OnDisconnect {
	if s.OnDisconnect == "" {
		return DisconnectReplace
	}
	return s.OnDisconnect
}

// Persist reports whether an instance's data stays when it is stopped: StoragePersist
// or its default.
func (s *Service) Persist() bool { return s.StoragePersist == nil || *s.StoragePersist }

// Expand replaces the placeholders {name} {id} {data_dir} {port} {socket} in text.
// Any other brace stays as it is.
func Expand(text string, ref Ref, dataDir string, port int, socket string) string {
	if !strings.Contains(text, "{") {
		return text
	}
	return strings.NewReplacer(
		"{name}", ref.Service, "{id}", ref.ID, "{data_dir}", dataDir,
		"{port}", strconv.Itoa(port), "{socket}", socket,
	).Replace(text)
}

func hasNUL(s string) bool { return strings.ContainsRune(s, 0) }

func validHealth(p string) bool {
	if p == "" {
		return true
	}
	_, err := url.ParseRequestURI(p)
	return err == nil && p[0] == '/' && !strings.ContainsFunc(p, func(r rune) bool { return r <= ' ' || r == 0x7f })
}

// durationRange reads "a duration from MIN to MAX".
type durationRange struct{ min, max Duration }

func (r durationRange) String() string {
	return "a duration from " + r.min.String() + " to " + r.max.String()
}

// oneOf reads `one of "a", "b"`.
type oneOf[T ~string] []T

func (all oneOf[T]) String() string {
	parts := make([]string, len(all))
	for i, v := range all {
		parts[i] = fmt.Sprintf("%q", string(v))
	}
	return "one of " + strings.Join(parts, ", ")
}
