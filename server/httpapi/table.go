package httpapi

import (
	"slices"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/server/auth"
)

// endpoint is one row of the table.
type endpoint struct {
	method string
	path   string // with {name} of a service, {instance} service:id, {fleet} service:name, {node} id or name, {id} of a token; others are text
	access auth.Access
	name   string // operationId, and the action in the audit log
	about  string
	params []param // query and headers; what is not listed is refused
	handler
}

// mutates reports whether the endpoint changes anything, and so is audited.
func (e *endpoint) mutates() bool { return e.method != "GET" && !e.dry }

// blocks reports whether the endpoint takes ?index and ?wait.
func (e *endpoint) blocks() bool {
	return slices.ContainsFunc(e.params, func(p param) bool { return p.name == "wait" })
}

const admin, tenant, public = auth.AccessAdmin, auth.AccessTenant, auth.AccessPublic

// table is every endpoint of the API.
func table(metricsPublic bool) []endpoint {
	return slices.Concat(serverTable(metricsPublic), objectTable(), clusterTable(), providerTable())
}

// serverTable is what is about the node that answers.
func serverTable(metricsPublic bool) []endpoint {
	metrics := admin
	if metricsPublic {
		metrics = public
	}
	events := []param{{name: "index", kind: kindUint, about: "events after this index; 0, the default, is from now on"}, lastEvent()}
	return []endpoint{
		{"GET", "/", public, "getLanding", "A page for people: where they are and what to do", nil, raw("text/html", (*Server).serveLanding)},
		{"GET", "/health", public, "getServerHealth", "200 once the node serves", nil, read((*Server).serverHealth)},
		{"GET", "/metrics", metrics, "getMetrics", "Prometheus metrics", nil, raw("text/plain", (*Server).serveMetrics)},
		{"GET", "/api/openapi.json", public, "getOpenAPI", "This document", nil, raw("application/json", (*Server).serveOpenAPI)},
		{"GET", "/api/telemetry", admin, "getTelemetry", "The node in figures", nil, read((*Server).telemetry)},
		{"GET", "/api/tls/status", admin, "getTLSStatus", "The node's certificates", nil, read((*Server).tlsStatus)},
		{"GET", "/api/node", admin, "getNode", "The node that answers", blockParams(), read((*Server).getNode)},
		{"POST", "/api/upgrade", admin, "upgrade", "Replace the serving ten; no instance is restarted", nil, optional(write((*Server).upgrade))},

		{"GET", "/api/logs", tenant, "listLogs", "The newest log entries, oldest first", logParams(), read((*Server).listLogs)},
		{"GET", "/api/logs/stream", tenant, "streamLogs", "Log entries as they come (SSE)", append(logParams(), lastEvent()), stream[api.LogEntry]((*Server).streamLogs)},
		{"GET", "/api/events", admin, "streamEvents", "Changes of the state as they come (SSE)", events, stream[api.Event]((*Server).streamEvents)},

		{"GET", "/api/tokens", admin, "listTokens", "All tokens, without their secrets", blockParams(), read((*Server).listTokens)},
		{"POST", "/api/tokens", admin, "createToken", "Make a token; the answer tells its secret, once", nil, created(write((*Server).createToken))},
		{"PUT", "/api/tokens/{id}", admin, "putToken", "Make a token of a secret that the server is not told, or change a token", matchParam(), write((*Server).putToken)},
		{"DELETE", "/api/tokens/{id}", admin, "deleteToken", "Revoke a token", nil, read((*Server).deleteToken)},
	}
}

// objectTable is services, their instances and fleets, and routes.
func objectTable() []endpoint {
	var (
		block, ifMatch = blockParams(), matchParam()
		stop           = []param{
			{name: "hold", kind: kindBool, about: "keep it down: requests get 503 until somebody starts it"},
			{name: "purge", kind: kindBool, about: "remove the instance altogether"},
		}
		ofService = []param{{name: "service", kind: kindName, about: "fleets of this service only"}}
		live      = []param{
			{name: "service", kind: kindName, about: "instances of this service only"},
			{name: "node", kind: kindText, about: "instances on this node only, by its id or name; also those that it still serves, or has the data of, while they move"},
			{name: "live", kind: kindBool, about: "only what has a process, or is about to"},
		}
	)
	return []endpoint{
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

		{"GET", "/api/fleets", admin, "listFleets", "All fleets, by name", slices.Concat(ofService, block), read((*Server).listFleets)},
		{"GET", "/api/fleets/{fleet}", admin, "getFleet", "One fleet", block, read((*Server).getFleet)},
		{"PUT", "/api/fleets/{fleet}", admin, "putFleet", "Create, change or scale a fleet, without waiting", ifMatch, write((*Server).putFleet)},
		{"DELETE", "/api/fleets/{fleet}", admin, "deleteFleet", "Remove a fleet and its instances", ifMatch, read((*Server).deleteFleet)},

		{"GET", "/api/routes", admin, "listRoutes", "All routes, by name, and what becomes of their requests now", block, read((*Server).listRoutes)},
		{"GET", "/api/routes/{name}", admin, "getRoute", "One route, and what becomes of its requests now", block, read((*Server).getRoute)},
		{"PUT", "/api/routes/{name}", admin, "putRoute", "Create or change a route", ifMatch, write((*Server).putRoute)},
		{"DELETE", "/api/routes/{name}", admin, "deleteRoute", "Remove a route", ifMatch, read((*Server).deleteRoute)},
	}
}

// clusterTable is the servers of the cluster and what they share.
func clusterTable() []endpoint {
	var (
		block  = blockParams()
		remove = []param{{name: "force", kind: kindBool, about: "although it is up and has instances"}}
		other  = []param{{name: "force", kind: kindBool, about: "although it is of another cluster"}}
	)
	return []endpoint{
		{"GET", "/api/cluster", admin, "getCluster", "The cluster: its leader and members", block, read((*Server).getCluster)},
		{"GET", "/api/cluster/ca", public, "getCA", "The certificates of the cluster's CA, which signs those of the TLS ports", nil, raw(mediaPEM, (*Server).serveCA)},
		{"GET", "/api/nodes", admin, "listNodes", "The members of the cluster, by name", block, read((*Server).listNodes)},
		{"GET", "/api/nodes/{node}", admin, "getMember", "One member", block, read((*Server).getMember)},
		{"PUT", "/api/nodes/{node}", admin, "putNode", "Cordon or drain a node, or make it eligible again", matchParam(), write((*Server).putNode)},
		{"DELETE", "/api/nodes/{node}", admin, "removeNode", "Take a node out of the cluster for good", remove, read((*Server).removeNode)},
		{"POST", "/api/nodes/{node}/promote", admin, "promoteNode", "Give a node a vote", nil, read((*Server).promoteNode)},
		{"POST", "/api/plan", admin, "plan", "Where would instances go, and why? Changes nothing", nil, dry(optional(write((*Server).plan)))},

		{"GET", "/api/join-tokens", admin, "listJoinTokens", "All join tokens, without their secrets", block, read((*Server).listJoinTokens)},
		{"POST", "/api/join-tokens", admin, "createJoinToken", "Make a join token; the answer tells it, once", nil, created(optional(write((*Server).createJoinToken)))},
		{"DELETE", "/api/join-tokens/{id}", admin, "deleteJoinToken", "Revoke a join token", nil, read((*Server).deleteJoinToken)},
		{"GET", "/api/secret", admin, "getSecret", "How far the rotation of the cluster's secret is", block, read((*Server).getSecret)},
		{"POST", "/api/secret/rotate", admin, "rotateSecret", "Begin to rotate the cluster's secret", nil, accepted(read((*Server).rotateSecret))},
		{"GET", "/api/cluster/snapshot", admin, "saveSnapshot", "The whole state, to be kept", nil, raw(mediaBinary, (*Server).saveSnapshot)},
		{"POST", "/api/cluster/snapshot", admin, "restoreSnapshot", "Replace the whole state by a snapshot", other, taking(mediaBinary, raw("", (*Server).restoreSnapshot))},
	}
}

// providerTable is what Terraform asks for by itself. It sends no token for the packages,
// so that none of it takes one.
func providerTable() []endpoint {
	const (
		versions = api.RegistryProviders + "tenement/ten"
		mirror   = api.RegistryMirror + "{host}/tenement/ten"
	)
	return []endpoint{
		{"GET", "/.well-known/terraform.json", public, "discoverRegistry", "Where Terraform finds the provider registry", nil, read((*Server).discoverRegistry)},
		{"GET", versions + "/versions", public, "listProviderVersions", "The versions of the Terraform provider that this server has", nil, read((*Server).providerVersions)},
		{"GET", versions + "/{version}/download/{os}/{arch}", public, "getProviderPackage", "Where a package of the provider is, and how it is signed", nil, read((*Server).providerPackage)},
		{"GET", api.RegistryFiles + "{file}", public, "getProviderFile", "A package of the provider, its checksums or their signature", nil, raw(mediaBinary, (*Server).serveProviderFile)},
		{"GET", mirror + "/index.json", public, "listMirrorVersions", "As a network mirror: the versions that there are", nil, read((*Server).mirrorVersions)},
		{"GET", mirror + "/{document}", public, "getMirrorArchives", "As a network mirror: the packages of one version", nil, read((*Server).mirrorArchives)},
	}
}

func matchParam() []param {
	return []param{{name: "If-Match", in: inHeader, kind: kindETag, about: `change only this revision, as "N"; "0" creates only; * changes only what exists`}}
}

func blockParams() []param {
	return []param{
		{name: "index", kind: kindUint, about: "answer once the state's index is greater than this"},
		{name: "wait", kind: kindDuration, about: "with index: answer after this long anyhow, at most 10m; default 5m"},
		{name: "consistent", kind: kindBool, about: "answer only from a state that the leader confirms to be the newest"},
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
