package httpapi

import (
	"slices"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/server/auth"
)

// endpoint is one row of the table.
type endpoint struct {
	method string
	path   string // with {name} of a service, {instance} service:id, {id} of a token
	access auth.Access
	name   string // operationId, and the action in the audit log
	about  string
	params []param // query and headers; what is not listed is refused
	handler
}

// mutates reports whether the endpoint changes anything, and so is audited.
func (e *endpoint) mutates() bool { return e.method != "GET" }

// blocks reports whether the endpoint takes ?index and ?wait.
func (e *endpoint) blocks() bool {
	return slices.ContainsFunc(e.params, func(p param) bool { return p.name == "wait" })
}

// table is every endpoint of the API.
func table(metricsPublic bool) []endpoint {
	const admin, tenant, public = auth.AccessAdmin, auth.AccessTenant, auth.AccessPublic
	metrics := admin
	if metricsPublic {
		metrics = public
	}
	var (
		block   = blockParams()
		ifMatch = []param{{name: "If-Match", in: inHeader, kind: kindETag, about: `change only this revision, as "N"; "0" creates only; * changes only what exists`}}
		stop    = []param{
			{name: "hold", kind: kindBool, about: "keep it down: requests get 503 until somebody starts it"},
			{name: "purge", kind: kindBool, about: "remove the instance altogether"},
		}
		events = []param{{name: "index", kind: kindUint, about: "events after this index; 0, the default, is from now on"}, lastEvent()}
		live   = []param{
			{name: "service", kind: kindName, about: "instances of this service only"},
			{name: "live", kind: kindBool, about: "only what has a process, or is about to"},
		}
	)
	return []endpoint{
		{"GET", "/", public, "getLanding", "A page for people: where they are and what to do", nil, raw("text/html", (*Server).serveLanding)},
		{"GET", "/health", public, "getServerHealth", "200 once the node serves", nil, read((*Server).serverHealth)},
		{"GET", "/metrics", metrics, "getMetrics", "Prometheus metrics", nil, raw("text/plain", (*Server).serveMetrics)},
		{"GET", "/api/openapi.json", public, "getOpenAPI", "This document", nil, raw("application/json", (*Server).serveOpenAPI)},
		{"GET", "/api/telemetry", admin, "getTelemetry", "The node in figures", nil, read((*Server).telemetry)},
		{"GET", "/api/tls/status", admin, "getTLSStatus", "The node's certificates", nil, read((*Server).tlsStatus)},
		{"GET", "/api/node", admin, "getNode", "The node that answers", block, read((*Server).getNode)},
		{"POST", "/api/upgrade", admin, "upgrade", "Replace the serving ten; no instance is restarted", nil, optional(write((*Server).upgrade))},

		{"GET", "/api/services", admin, "listServices", "All services, by name", block, read((*Server).listServices)},
		{"GET", "/api/services/{name}", admin, "getService", "One service", block, read((*Server).getService)},
		{"PUT", "/api/services/{name}", admin, "putService", "Create or change a service", ifMatch, write((*Server).putService)},
		{"DELETE", "/api/services/{name}", admin, "deleteService", "Remove a service and its instances", ifMatch, read((*Server).deleteService)},

		{"GET", "/api/instances", tenant, "listInstances", "All instances, by name", slices.Concat(live, block), read((*Server).listInstances)},
		{"GET", "/api/instances/{instance}", tenant, "getInstance", "One instance", block, read((*Server).getInstance)},
		{"PUT", "/api/instances/{instance}", admin, "putInstance", "Create or change an instance, without waiting", ifMatch, write((*Server).putInstance)},
		{"DELETE", "/api/instances/{instance}", admin, "stopInstance", "Put an instance to sleep, hold it down, or remove it", slices.Concat(stop, ifMatch), read((*Server).stopInstance)},
		{"POST", "/api/instances/{instance}/restart", admin, "restartInstance", "Restart; answers once it accepts connections", nil, read((*Server).restartInstance)},
		{"PUT", "/api/instances/{instance}/weight", admin, "setWeight", "Set the share of weighted traffic", ifMatch, write((*Server).setWeight)},
		{"GET", "/api/instances/{instance}/health", tenant, "getHealth", "What the last health checks found", block, read((*Server).getHealth)},
		{"GET", "/api/instances/{instance}/storage", admin, "getStorage", "Bytes in the data directory, and the quota", nil, read((*Server).getStorage)},

		{"POST", "/api/instances/spawn", admin, "spawn", "Start an instance; answers once it accepts connections", nil, write((*Server).spawn)},
		{"POST", "/api/deploy", admin, "deploy", "Start a version; answers once it is healthy and has its weight", nil, write((*Server).deploy)},
		{"POST", "/api/route", admin, "route", "Move weighted traffic from one version to another", nil, write((*Server).route)},

		{"GET", "/api/logs", tenant, "listLogs", "The newest log entries, oldest first", logParams(), read((*Server).listLogs)},
		{"GET", "/api/logs/stream", tenant, "streamLogs", "Log entries as they come (SSE)", append(logParams(), lastEvent()), stream[api.LogEntry]((*Server).streamLogs)},
		{"GET", "/api/events", admin, "streamEvents", "Changes of the state as they come (SSE)", events, stream[api.Event]((*Server).streamEvents)},

		{"GET", "/api/tokens", admin, "listTokens", "All tokens, without their secrets", block, read((*Server).listTokens)},
		{"POST", "/api/tokens", admin, "createToken", "Make a token; the answer tells its secret, once", nil, created(write((*Server).createToken))},
		{"DELETE", "/api/tokens/{id}", admin, "deleteToken", "Revoke a token", nil, read((*Server).deleteToken)},
	}
}

func blockParams() []param {
	return []param{
		{name: "index", kind: kindUint, about: "answer once the state's index is greater than this"},
		{name: "wait", kind: kindDuration, about: "with index: answer after this long anyhow, at most 10m; default 5m"},
		{name: "consistent", kind: kindBool, about: "read what the leader has; a single node always does"},
	}
}

func logParams() []param {
	return []param{
		{name: "process", kind: kindName, about: "entries of this service"},
		{name: "id", kind: kindName, about: "entries of instances with this id"},
		{name: "level", kind: kindEnum, enum: []string{string(api.Stdout), string(api.Stderr)}, about: "entries of one stream"},
		{name: "search", kind: kindText, about: "entries that hold all these words"},
		{name: "limit", kind: kindUint, max: 10_000, about: "the newest that many; default 100"},
		{name: "after", kind: kindUint, about: "entries with a greater seq"},
	}
}

func lastEvent() param {
	return param{name: "Last-Event-ID", in: inHeader, kind: kindUint, about: "go on after this id; sent by clients that reconnect"}
}
