package api

import "time"

// EventType says what happened to which kind of object.
type EventType string

// The event types. An "updated" instance event covers what users, the leader and the
// owning node write; the object in the event tells which.
const (
	EventServiceUpdated  EventType = "service.updated" // created or changed
	EventServiceDeleted  EventType = "service.deleted"
	EventInstanceUpdated EventType = "instance.updated"
	EventInstanceDeleted EventType = "instance.deleted"
	EventFleetUpdated    EventType = "fleet.updated"
	EventFleetDeleted    EventType = "fleet.deleted"
	EventRouteUpdated    EventType = "route.updated"
	EventRouteDeleted    EventType = "route.deleted"
	EventNodeUpdated     EventType = "node.updated"
	EventNodeDeleted     EventType = "node.deleted"
	EventTokenUpdated    EventType = "token.updated"
	EventTokenDeleted    EventType = "token.deleted"
	// EventResync is no change of an object: the server no longer has all changes since
	// the index asked for. Read the objects again; what follows is what changed after the
	// event's Index.
	EventResync EventType = "resync"
)

// Event is one change of the cluster's state.
type Event struct {
	Index uint64    `json:"index"` // Raft index; several events may share one
	Type  EventType `json:"type"`
	Key   string    `json:"key"` // name of a service or route, service:id, service:fleet, node id or token id

	// One of these, the object after the change; null after a deletion.
	Service  *Service  `json:"service,omitempty"`
	Instance *Instance `json:"instance,omitempty"`
	Fleet    *Fleet    `json:"fleet,omitempty"`
	Route    *Route    `json:"route,omitempty"`
	Node     *Node     `json:"node,omitempty"`
	Token    *Token    `json:"token,omitempty"`
}

// Stream is one of a program's two output streams.
type Stream string

// The streams; also the "level" of log queries.
const (
	Stdout Stream = "stdout"
	Stderr Stream = "stderr"
)

// LogEntry is one line that an instance printed.
type LogEntry struct {
	Seq      uint64    `json:"seq"` // grows by at least one per line on a node, across restarts
	Time     time.Time `json:"time"`
	Service  string    `json:"service"`
	Instance string    `json:"id"`
	Level    Stream    `json:"level"`
	// Message is the line without its newline. Bytes that are not UTF-8 are replaced by
	// U+FFFD; a line over 64 KiB continues in entries whose Partial is set on all but the last.
	Message string `json:"message"`
	Partial bool   `json:"partial,omitempty"`
	// Node is the id of the node that it ran on, where several were asked.
	Node string `json:"node,omitempty"`
}

// LogQuery selects log entries. Zero fields don't restrict.
type LogQuery struct {
	Service  string `json:"service,omitempty"`
	Instance string `json:"id,omitempty"`
	Level    Stream `json:"level,omitempty"`
	// Search holds words that the line must all contain, case-insensitively.
	Search string `json:"search,omitempty"`
	// Limit keeps the newest that many entries; 0 means 100, the most is 10,000.
	Limit int `json:"limit,omitempty"`
	// After keeps entries with a greater Seq.
	After uint64 `json:"after,omitempty"`
}
