package config

import (
	"fmt"
	"strings"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// ownTables are the tables of what ten itself is told. Each of their keys is also a
// variable: settings.tls.domain is TENEMENT_TLS_DOMAIN, cluster.join is TENEMENT_JOIN. No
// two have a key of one name.
var ownTables = []ownTable{{"settings", settingKeys}, {"cluster", clusterKeys}}

type ownTable struct {
	name string
	keys []key[Config]
}

// ownKeys yields every key of ownTables with its table's name.
func ownKeys(yield func(table string, k key[Config]) bool) {
	for _, t := range ownTables {
		for _, k := range t.keys {
			if !yield(t.name, k) {
				return
			}
		}
	}
}

// clusterKeys are the keys of [cluster].
var clusterKeys = []key[Config]{
	list("join", "servers of the cluster to join, as ADDRESS or ADDRESS:PEER_PORT; none: this server starts one of its own", func(c *Config) *[]string { return &c.Cluster.Join }),
	text("secret_file", "file with the cluster's secret, see 'ten secret'; \"\": the one that the server keeps itself", func(c *Config) *string { return &c.Cluster.SecretFile }),
	text("token_file", "file with a join token, see 'ten join-token'; it may name the servers to join", func(c *Config) *string { return &c.Cluster.TokenFile }),
	count("bootstrap_expect", "number of servers that start together and make one cluster of themselves; 0: none", 0, 9, func(c *Config) *int { return &c.Cluster.BootstrapExpect }),
	text("node_name", "name of this server; \"\": its host name", func(c *Config) *string { return &c.Cluster.NodeName }).
		wants("1 to 63 of a-z 0-9 _ -, the first a letter or digit"),
	count("peer_port", "port for the other servers; 0: any free one", 0, 65535, func(c *Config) *int { return &c.Cluster.PeerPort }),
	count("gossip_port", "port, TCP and UDP, on which servers find each other; 0: any free one", 0, 65535, func(c *Config) *int { return &c.Cluster.GossipPort }),
	text("advertise", "address at which other servers reach this one; \"\": bind, or the first that is not loopback", func(c *Config) *string { return &c.Cluster.Advertise }),
	text("region", "where this server is, for placement", func(c *Config) *string { return &c.Cluster.Region }),
	text("zone", "part of the region", func(c *Config) *string { return &c.Cluster.Zone }),
	text("provider", "whose machine it is", func(c *Config) *string { return &c.Cluster.Provider }),
	table("labels", "further properties, for placement", func(c *Config) *map[string]string { return &c.Cluster.Labels }),
	count("memory_overcommit", "times its memory that the limits of the instances placed on it may add up to; 0: no bound", 0, 1000,
		func(c *Config) *int { return &c.Cluster.MemoryOvercommit }),
	count("cpu_overcommit", "times its processors, of 1024 cpu_shares each, likewise", 0, 1000, func(c *Config) *int { return &c.Cluster.CPUOvercommit }),
}

// settingKeys are the keys of [settings].
var settingKeys = []key[Config]{
	word("data_dir", "where ten keeps its state, and each instance its data", func(c *Config) *string { return &c.DataDir }),
	text("bind", "address to listen on; \"\": all of them", func(c *Config) *string { return &c.Bind }),
	count("port", "port to listen on; 0: any free one", 0, 65535, func(c *Config) *int { return &c.Port }),
	count("tls_port", "port that serves the same over TLS, with a certificate of the cluster's CA, which 'ten cluster ca' prints; 0: none", 0, 65535, func(c *Config) *int { return &c.TLSPort }),
	list("tls_names", "further names and addresses of that certificate", func(c *Config) *[]string { return &c.TLSNames }),
	word("domain", "the root domain: instances are {id}.{service}.{domain}", func(c *Config) *string { return &c.Domain }).
		wants(`a host name such as "example.com"`),
	duration("health_check_interval", "seconds between health checks, unless a service says otherwise", time.Second, time.Millisecond,
		func(c *Config) *api.Duration { return &c.Defaults.HealthInterval }).in("health_interval"),
	restarts("max_restarts", "that many restarts within restart_window, one more and an instance has failed",
		func(c *Config) *int { return &c.Defaults.MaxRestarts }),
	duration("restart_window", "seconds that max_restarts counts within", time.Second, time.Millisecond, func(c *Config) *api.Duration { return &c.Defaults.RestartWindow }),
	duration("backoff_base_ms", "pause before the first restart, doubled for each further one", time.Millisecond, time.Millisecond,
		func(c *Config) *api.Duration { return &c.Defaults.BackoffBase }).in("backoff_base"),
	duration("backoff_max_ms", "the longest pause", time.Millisecond, time.Millisecond,
		func(c *Config) *api.Duration { return &c.Defaults.BackoffMax }).in("backoff_max"),
	count("max_concurrent_starts", "programs that start at one time; 0: by the number of cores", 0, 10_000,
		func(c *Config) *int { return &c.MaxConcurrentStarts }),
	duration("log_max_age", "seconds that the output of instances is kept", time.Second, time.Second,
		func(c *Config) *api.Duration { return &c.LogMaxAge }),
	size("log_max_size", "room for the output of instances; the oldest goes first", api.MiB, func(c *Config) *api.Size { return &c.LogMaxSize }),
	truth("tls.enabled", "serve HTTPS with certificates of its own; this version refuses it", func(c *Config) *bool { return &c.TLS.Enabled }),
	text("tls.acme_email", "contact for the certificate authority", func(c *Config) *string { return &c.TLS.ACMEEmail }),
	text("tls.domain", "domain of the certificates", func(c *Config) *string { return &c.TLS.Domain }),
	truth("tls.staging", "use the certificate authority's test system", func(c *Config) *bool { return &c.TLS.Staging }),
}

// serviceKeys are the keys of [service.NAME].
var serviceKeys = []key[api.Service]{
	word("command", "the program, split as a shell splits words when args is absent",
		func(s *api.Service) *string { return &s.Command }).wants("a program and its arguments, quotes balanced"),
	list("args", "its arguments", func(s *api.Service) *[]string { return &s.Args }),
	text("workdir", "working directory, relative to this file; the default is this file's directory",
		func(s *api.Service) *string { return &s.Workdir }),
	table("env", "environment; {name} {id} {data_dir} {port} {socket} are replaced",
		func(s *api.Service) *map[string]string { return &s.Env }),
	list("secret_env", "names in env whose values only the programs are told: no answer of the API, and so no state of Terraform, has them",
		func(s *api.Service) *[]string { return &s.SecretEnv }),
	text("socket", "unix socket that the program listens on instead of $PORT, relative to the instance's data",
		func(s *api.Service) *string { return &s.Socket }),
	text("health", "HTTP path whose 200 means healthy", func(s *api.Service) *string { return &s.Health }),
	seconds("health_interval", "seconds between health checks", time.Millisecond, func(s *api.Service) *api.Duration { return &s.HealthInterval }),
	word("isolation", "how it is set apart; 'ten doctor' shows what works here", func(s *api.Service) *api.Isolation { return &s.Isolation }).
		wants(oneOf(api.Isolations())),
	seconds("idle_timeout", "sleep after that many seconds without a request; 0: never", 0,
		func(s *api.Service) *api.Duration { return &s.IdleTimeout }),
	seconds("startup_timeout", "seconds until first healthy", time.Millisecond, func(s *api.Service) *api.Duration { return &s.StartupTimeout }),
	seconds("request_timeout", "seconds to the first byte of an answer", time.Millisecond, func(s *api.Service) *api.Duration { return &s.RequestTimeout }),
	seconds("stop_timeout", "seconds between SIGTERM and SIGKILL", time.Millisecond, func(s *api.Service) *api.Duration { return &s.StopTimeout }),
	word("restart", "when it is started again", func(s *api.Service) *api.RestartPolicy { return &s.Restart }).
		wants(oneOf(api.RestartPolicies())),
	restarts("max_restarts", "as in [settings]", func(s *api.Service) *int { return &s.MaxRestarts }),
	seconds("restart_window", "as in [settings]", time.Millisecond, func(s *api.Service) *api.Duration { return &s.RestartWindow }),
	duration("backoff_base_ms", "as in [settings]", time.Millisecond, time.Millisecond,
		func(s *api.Service) *api.Duration { return &s.BackoffBase }).in("backoff_base"),
	duration("backoff_max_ms", "as in [settings]", time.Millisecond, time.Millisecond,
		func(s *api.Service) *api.Duration { return &s.BackoffMax }).in("backoff_max"),
	mebibytes("memory_limit_mb", "most memory, in MiB; 0: no bound; not enforced yet", func(s *api.Service) *api.Size { return &s.MemoryLimit }).in("memory_limit"),
	count("cpu_shares", "share of the CPU when that is short; 0: unset; not enforced yet", 0, 10_000, func(s *api.Service) *int { return &s.CPUShares }),
	mebibytes("storage_quota_mb", "room for its data, in MiB; 0: no bound; reported, not enforced", func(s *api.Service) *api.Size { return &s.StorageQuota }).in("storage_quota"),
	persist("storage_persist", "keep its data when somebody stops or removes it; falling asleep never removes any"),
	text("kernel", "microVM: kernel image", func(s *api.Service) *string { return &s.Kernel }),
	text("rootfs", "microVM: root file system image", func(s *api.Service) *string { return &s.Rootfs }),
	mebibytes("memory_mb", "microVM: memory, in MiB", func(s *api.Service) *api.Size { return &s.Memory }).in("memory"),
	count("vcpus", "microVM: processors", 0, 256, func(s *api.Service) *int { return &s.VCPUs }),
	count("vsock_port", "microVM: vsock port that the program listens on", 0, 65535, func(s *api.Service) *int { return &s.VsockPort }),
	rule(word("strategy", `of the nodes that could take an instance, the emptiest ("spread") or the fullest ("binpack") does`,
		func(r *api.PlacementRules) *api.Strategy { return &r.Strategy }).wants(oneOf([]api.Strategy{api.StrategySpread, api.StrategyBinpack}))),
	rule(word("spread_by", "what its instances are spread over", func(r *api.PlacementRules) *api.SpreadBy { return &r.SpreadBy }).
		wants(oneOf([]api.SpreadBy{api.SpreadByNode, api.SpreadByZone, api.SpreadByRegion}))),
	rule(constraints("constraints", "conditions on a node, all of which must hold")),
	rule(list("anti_affinity", "services with which it never shares a node; its own name: one instance a node",
		func(r *api.PlacementRules) *[]string { return &r.AntiAffinity })),
	rule(affinities("affinities", "conditions that make a node better, 1 to 100, or worse, -100 to -1")),
	onDisconnect("on_disconnect", "what becomes of an instance whose node is cut off: started elsewhere, left alone, or stopped there and then started elsewhere"),
	truth("spawn_on_request", "a request for an unknown id creates that instance", func(s *api.Service) *bool { return &s.SpawnOnRequest }),
	count("max_instances", "most instances", 1, 1_000_000, func(s *api.Service) *int { return &s.MaxInstances }),
}

// routingKeys are the keys of [routing].
var routingKeys = []key[Routing]{
	text("default", "service at the root domain", func(r *Routing) *string { return &r.Default }),
	table("subdomain", "x = \"service\": at x.{domain}", func(r *Routing) *map[string]string { return &r.Subdomain }),
	table("path", "x = \"service\": at {domain}/x/*", func(r *Routing) *map[string]string { return &r.Path }),
}

// rule is a key of [service.NAME.placement].
func rule(k key[api.PlacementRules]) key[api.Service] {
	return key[api.Service]{
		name: "placement." + k.name, field: "placement." + k.name, doc: k.doc, want: k.want,
		set: func(s *api.Service, v any) bool {
			if s.Placement == nil {
				s.Placement = new(api.PlacementRules)
			}
			return k.set(s.Placement, v)
		},
		get: func(s *api.Service) any { return k.get(s.Placement.WithDefaults()) },
	}
}

func onDisconnect(name, doc string) key[api.Service] {
	k := word(name, doc, func(s *api.Service) *api.OnDisconnect { return &s.OnDisconnect }).wants(oneOf(api.OnDisconnects()))
	k.get = func(s *api.Service) any { return string(s.Disconnect()) }
	return k
}

func constraints(name, doc string) key[api.PlacementRules] {
	return key[api.PlacementRules]{
		name: name, doc: doc,
		want: `a list of conditions such as "zone = eu-1|eu-2", "provider != acme", "label.gpu" or "!label.old"`,
		set: func(r *api.PlacementRules, v any) bool {
			items, ok := v.([]any)
			r.Constraints = nil
			for _, item := range items {
				text, isText := item.(string)
				ok = ok && isText
				r.Constraints = append(r.Constraints, constraint(text))
			}
			return ok
		},
		get: func(r *api.PlacementRules) any {
			out := make([]string, len(r.Constraints))
			for i, c := range r.Constraints {
				out[i] = string(c)
			}
			return out
		},
	}
}

// constraint returns the canonical form of a condition, or the text itself for
// Validate to report.
func constraint(text string) api.Constraint {
	c, err := api.ParseConstraint(text)
	if err != nil {
		return api.Constraint(text)
	}
	return c
}

func affinities(name, doc string) key[api.PlacementRules] {
	return key[api.PlacementRules]{
		name: name, doc: doc, want: `a table such as { "zone = eu-1" = 50, "label.slow" = -100 }`,
		set: func(r *api.PlacementRules, v any) bool {
			entries, ok := v.(map[string]any)
			r.Affinities = nil
			for _, text := range sortedKeys(entries) {
				weight, isInt := entries[text].(int64)
				ok = ok && isInt && -100 <= weight && weight <= 100 && weight != 0
				r.Affinities = append(r.Affinities, api.Affinity{Match: constraint(text), Weight: int(weight)})
			}
			return ok
		},
		get: func(r *api.PlacementRules) any {
			if len(r.Affinities) == 0 {
				return nil
			}
			out := make(map[string]int, len(r.Affinities))
			for _, a := range r.Affinities {
				out[string(a.Match)] = a.Weight
			}
			return out
		},
	}
}

func seconds(name, doc string, least time.Duration, at func(*api.Service) *api.Duration) key[api.Service] {
	return duration(name, doc, time.Second, least, at)
}

// restarts is a count whose 0 is meant: api has -1 for that, since there 0 is unset.
func restarts[T any](name, doc string, at func(*T) *int) key[T] {
	k := count(name, doc, 0, 1000, at)
	set := k.set
	k.set = func(t *T, v any) bool {
		ok := set(t, v)
		if ok && *at(t) == 0 {
			*at(t) = -1
		}
		return ok
	}
	k.get = func(t *T) any { return max(*at(t), 0) }
	return k
}

func persist(name, doc string) key[api.Service] {
	return key[api.Service]{
		name: name, field: name, doc: doc, want: "true or false",
		set: func(s *api.Service, v any) bool { b, ok := v.(bool); s.StoragePersist = &b; return ok },
		get: func(s *api.Service) any { return s.Persist() },
	}
}

func oneOf[S ~string](all []S) string {
	parts := make([]string, len(all))
	for i, s := range all {
		parts[i] = fmt.Sprintf("%q", string(s))
	}
	return "one of " + strings.Join(parts, ", ")
}
