package api

import (
	"slices"
	"time"
)

// State is where an instance stands in its life, as its owning node last saw it.
type State string

// The states of an instance.
const (
	StatePending   State = "pending"   // placed, nothing done yet
	StateStarting  State = "starting"  // the program runs, but does not accept connections yet
	StateRunning   State = "running"   // accepts connections; see Observed.Healthy
	StateDegraded  State = "degraded"  // 1 or 2 health checks failed in a row; still served
	StateUnhealthy State = "unhealthy" // 3 failed; about to be restarted
	StateBackoff   State = "backoff"   // ended; waits to be started again
	StateAsleep    State = "asleep"    // costs nothing; the next request wakes it
	StateStopping  State = "stopping"  // drained, then told to end
	StateStopped   State = "stopped"   // held down; requests get 503
	StateFailed    State = "failed"    // gave up: see Reason
)

// States lists every state.
func States() []State {
	return []State{
		StatePending, StateStarting, StateRunning, StateDegraded, StateUnhealthy,
		StateBackoff, StateAsleep, StateStopping, StateStopped, StateFailed,
	}
}

// Serving reports whether an instance in this state takes requests.
func (s State) Serving() bool { return s == StateRunning || s == StateDegraded }

// Live reports whether an instance in this state has, or is about to have, a process.
func (s State) Live() bool {
	switch s {
	case StateStarting, StateRunning, StateDegraded, StateUnhealthy, StateBackoff, StateStopping:
		return true
	default:
		return false
	}
}

// Desired is what a user wants an instance to be.
type Desired string

// The desired states.
const (
	// DesiredRunning: in weighted traffic; started when declared; sleeps when idle.
	DesiredRunning Desired = "running"
	// DesiredAsleep: out of weighted traffic; a request for its own host wakes it,
	// and it sleeps again when idle.
	DesiredAsleep Desired = "asleep"
	// DesiredStopped: held down; requests get 503.
	DesiredStopped Desired = "stopped"
)

// DesiredStates lists every desired state.
func DesiredStates() []Desired { return []Desired{DesiredRunning, DesiredAsleep, DesiredStopped} }

// MaxWeight is the largest share of weighted traffic.
const MaxWeight = 100

// DefaultWeight is the weight of an instance that names none.
const DefaultWeight = MaxWeight

// Instance is one copy of a service. Users write Desired, Weight and Pin; the leader
// writes Node, Generation, Previous and DataNode; the owning node writes Observed; nobody
// else touches them.
type Instance struct {
	Service string  `json:"service"`
	ID      string  `json:"id"`
	Desired Desired `json:"desired"`
	// Weight is the share, 0 to 100, of the traffic to {service}.{domain}; null means 100.
	Weight *int `json:"weight"`
	// Pin is the id of the one node on which it may run; empty leaves it to the leader.
	Pin    string `json:"pin,omitempty"`
	Source Source `json:"source"`
	// SourceNode is the id of the node whose file declared it, for SourceFile.
	SourceNode string `json:"source_node,omitempty"`
	// Fleet is the name of the fleet that it is a member of. The fleet's weight is shared
	// by its members.
	Fleet string `json:"fleet,omitempty"`
	// Revision is the state's index of the last change to what users write.
	Revision  uint64    `json:"revision,omitempty"`
	CreatedAt time.Time `json:"created_at,omitzero"`

	// Node is the id of the node it is placed on; empty while it is not placed.
	Node       string `json:"node,omitempty"`
	Generation uint64 `json:"generation,omitempty"`
	// Previous is where it goes on serving until Node does, while it is being moved.
	Previous *Previous `json:"previous,omitempty"`
	// DataNode is the id of the node that has its data directory, when that is another
	// than Node: Node fetches it before the first start.
	DataNode string `json:"data_node,omitempty"`

	Observed *Observed `json:"observed,omitempty"`
}

// Previous is the placement before the present one.
type Previous struct {
	Node       string `json:"node"`
	Generation uint64 `json:"generation"`
}

// Observed is what the owning node last saw of an instance. Null means never started.
type Observed struct {
	State State `json:"state"`
	// Reason says in words why the state is what it is, for failed, backoff, unhealthy.
	Reason string `json:"reason,omitempty"`
	PID    int    `json:"pid,omitempty"`
	// Endpoint is where the instance accepts connections on its node.
	Endpoint *Endpoint `json:"endpoint,omitempty"`
	// Restarts counts starts after the first that were not wakes, since it was placed.
	Restarts int       `json:"restarts"`
	ExitCode *int      `json:"exit_code,omitempty"` // of the last run; null while unknown
	Since    time.Time `json:"since"`               // when State was entered
	// ServiceRevision is the revision of the service that the running program was started from.
	ServiceRevision uint64 `json:"service_revision,omitempty"`
	Generation      uint64 `json:"generation"` // the placement that this was observed under
	// Healthy is set once the program passed a health check and has failed none since;
	// without a health path, while it accepts connections.
	Healthy bool `json:"healthy,omitempty"`
	// Desired is what the user wanted when this was observed. An instance that sleeps,
	// stopped or failed is only brought back by a change of the user's mind: when
	// Instance.Desired differs from it.
	Desired Desired `json:"desired,omitempty"`
}

// Endpoint is an address on which an instance accepts connections.
type Endpoint struct {
	Network string `json:"network"` // "tcp" or "unix"
	Address string `json:"address"` // host:port, or a path
}

// Ref returns the instance's name.
func (i *Instance) Ref() Ref { return Ref{Service: i.Service, ID: i.ID} }

// SetDefaults fills every unset field with its default.
func (i *Instance) SetDefaults() {
	setDefault(&i.Desired, DesiredRunning)
	setDefault(&i.Source, SourceAPI)
	if i.Weight == nil {
		w := DefaultWeight
		i.Weight = &w
	}
}

// Validate checks an instance after SetDefaults; see [Service.Validate].
func (i *Instance) Validate() error {
	var c fieldChecks
	c.name("service", i.Service)
	c.name("id", i.ID)
	check(&c, slices.Contains(DesiredStates(), i.Desired), "desired", i.Desired, oneOf[Desired](DesiredStates()))
	w := i.EffectiveWeight()
	check(&c, 0 <= w && w <= MaxWeight, "weight", w, "0 to 100")
	check(&c, slices.Contains(Sources(), i.Source), "source", i.Source, oneOf[Source](Sources()))
	check(&c, len(i.Pin) <= 64, "pin", i.Pin, "the id of a node")
	if i.Fleet != "" {
		c.name("fleet", i.Fleet)
	}
	return c.err()
}

// EffectiveWeight returns Weight or its default.
func (i *Instance) EffectiveWeight() int {
	if i.Weight == nil {
		return DefaultWeight
	}
	return *i.Weight
}

// State returns the observed state. An instance that no node has reported yet is
// pending when it is meant to run, asleep or stopped when it is meant to be that.
func (i *Instance) State() State {
	if i.Observed != nil {
		return i.Observed.State
	}
	switch i.Desired {
	case DesiredAsleep:
		return StateAsleep
	case DesiredStopped:
		return StateStopped
	default:
		return StatePending
	}
}

// Equal reports whether two instances have the same user-written fields.
func (i *Instance) Equal(o *Instance) bool {
	return i.Service == o.Service && i.ID == o.ID && i.Desired == o.Desired &&
		i.EffectiveWeight() == o.EffectiveWeight() && i.Source == o.Source && i.SourceNode == o.SourceNode &&
		i.Pin == o.Pin && i.Fleet == o.Fleet
}

// Clone returns a deep copy.
func (i *Instance) Clone() *Instance {
	c := *i
	if i.Weight != nil {
		w := *i.Weight
		c.Weight = &w
	}
	if i.Previous != nil {
		p := *i.Previous
		c.Previous = &p
	}
	c.Observed = i.Observed.Clone()
	return &c
}

// Clone returns a deep copy; nil for nil.
func (o *Observed) Clone() *Observed {
	if o == nil {
		return nil
	}
	c := *o
	if o.Endpoint != nil {
		e := *o.Endpoint
		c.Endpoint = &e
	}
	if o.ExitCode != nil {
		x := *o.ExitCode
		c.ExitCode = &x
	}
	return &c
}

// Assignment is an instance together with its service, all that the owning node needs
// to converge on it. Both are shared and must not be changed.
type Assignment struct {
	Instance *Instance
	Service  *Service
	// Fenced says that the node must not run it for now, whatever is desired: it is cut off
	// from a cluster that may soon start it elsewhere.
	Fenced bool
	// Leaving says that it is to be started on another node, and that this one goes on
	// with the program that it has until then.
	Leaving bool
}

// Report is what a node tells the cluster about one of its instances.
type Report struct {
	Ref      Ref      `json:"ref"`
	Observed Observed `json:"observed"`
	// DataHere says that the node has the data directory now, if it had to be fetched from
	// another.
	DataHere bool `json:"data_here,omitempty"`
}
