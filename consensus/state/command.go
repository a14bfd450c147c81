package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// Version is the format of log entries, their first byte. The rest is JSON: commands,
// one a line.
const Version = 1

// ErrUnreadable is wrapped by the error of a command, or a snapshot, that this build
// can't decode: it was written by a newer one, or damaged. Such a node must stop: to
// skip a command that others apply would make it another state than theirs.
var ErrUnreadable = errors.New("written by a newer version, or damaged")

// Command is one change of the state. Exactly one of the pointers is set.
type Command struct {
	// Time is when the command was proposed; it becomes the objects' times.
	Time time.Time `json:"time"`

	InitCluster    *InitCluster    `json:"init_cluster,omitempty"`
	PutService     *PutService     `json:"put_service,omitempty"`
	DeleteService  *DeleteService  `json:"delete_service,omitempty"`
	PutInstance    *PutInstance    `json:"put_instance,omitempty"`
	DeleteInstance *DeleteInstance `json:"delete_instance,omitempty"`
	PutNode        *PutNode        `json:"put_node,omitempty"`
	PutToken       *PutToken       `json:"put_token,omitempty"`
	DeleteToken    *DeleteToken    `json:"delete_token,omitempty"`
	Place          *Place          `json:"place,omitempty"`
	Report         *Report         `json:"report,omitempty"`
	SyncFile       *SyncFile       `json:"sync_file,omitempty"`

	DescribeNode    *DescribeNode    `json:"describe_node,omitempty"`
	SetNode         *SetNode         `json:"set_node,omitempty"`
	NodeStatus      *NodeStatus      `json:"node_status,omitempty"`
	DeleteNode      *DeleteNode      `json:"delete_node,omitempty"`
	PutFleet        *PutFleet        `json:"put_fleet,omitempty"`
	DeleteFleet     *DeleteFleet     `json:"delete_fleet,omitempty"`
	EndMove         *EndMove         `json:"end_move,omitempty"`
	PutJoinToken    *PutJoinToken    `json:"put_join_token,omitempty"`
	DeleteJoinToken *DeleteJoinToken `json:"delete_join_token,omitempty"`
	UseJoinToken    *UseJoinToken    `json:"use_join_token,omitempty"`
	PutSecret       *PutSecret       `json:"put_secret,omitempty"`
	PutSealed       *PutSealed       `json:"put_sealed,omitempty"`
	PutRoute        *PutRoute        `json:"put_route,omitempty"`
	DeleteRoute     *DeleteRoute     `json:"delete_route,omitempty"`
}

// InitCluster names the cluster, once and for ever.
type InitCluster struct {
	ClusterID string `json:"cluster_id"`
}

// PutService creates or replaces a service. A put of what is already there changes
// nothing. IfMatch, where set, must be the current revision, 0 for "does not exist".
type PutService struct {
	Service api.Service `json:"service"`
	IfMatch *uint64     `json:"if_match,omitempty"`
}

// DeleteService removes a service and its instances.
type DeleteService struct {
	Name    string  `json:"name"`
	IfMatch *uint64 `json:"if_match,omitempty"`
}

// PutInstance creates an instance, or replaces what users write of it: its placement
// and what was observed stay.
type PutInstance struct {
	Instance api.Instance `json:"instance"`
	IfMatch  *uint64      `json:"if_match,omitempty"`
}

// DeleteInstance removes an instance.
type DeleteInstance struct {
	Ref     api.Ref `json:"ref"`
	IfMatch *uint64 `json:"if_match,omitempty"`
}

// PutNode is the [DescribeNode] of state version 1, when users wrote Eligibility by it as
// well.
type PutNode struct {
	Node api.Node `json:"node"`
}

// PutToken creates or replaces a token.
type PutToken struct {
	Token   api.Token `json:"token"`
	IfMatch *uint64   `json:"if_match,omitempty"`
}

// DeleteToken removes a token.
type DeleteToken struct {
	ID string `json:"id"`
}

// Place puts instances on nodes.
type Place struct {
	Placements []Placement `json:"placements"`
}

// Placement puts one instance on one node, or with an empty Node on none. It takes effect
// only if the instance exists at the generation before this one and the node exists: a
// plan made on an older view can't undo a newer decision.
//
// When an instance that was ever started leaves a node and its service keeps data, or must
// never run twice, its DataNode becomes that node, unless its data were still elsewhere.
type Placement struct {
	Ref        api.Ref `json:"ref"`
	Node       string  `json:"node"`
	Generation uint64  `json:"generation"`
	// KeepPrevious lets the node that serves the instance now go on until the new one
	// does: a report that says so, or an [EndMove], ends it.
	KeepPrevious bool `json:"keep_previous,omitempty"`
}

// EndMove ends what [Placement.KeepPrevious] began, if the instance is still at that
// generation.
type EndMove struct {
	Ref        api.Ref `json:"ref"`
	Generation uint64  `json:"generation"`
}

// Report is what one node observed of its instances. A report about an instance that is
// placed elsewhere, or under another generation, has no effect.
type Report struct {
	Node    string       `json:"node"`
	Reports []api.Report `json:"reports"`
}

// SyncFile makes the state hold what a node's tenement.toml declares, all of it or
// nothing: Services are upserted as declared by the file, missing Instances are created,
// and what the file declared before and no longer does is removed. What the file of
// another node declared is left alone, unless this one declares it too: then it is this
// node's. An existing instance keeps its desired state and weight.
type SyncFile struct {
	Node      string        `json:"node,omitempty"` // whose file it is
	Services  []api.Service `json:"services"`
	Instances []api.Ref     `json:"instances"`
}

// operation is what a command does.
type operation interface {
	// apply changes t and returns the object that resulted. After an error t is thrown
	// away. It must not change its receiver.
	apply(t *txn) (any, error)
}

// operation returns the one operation that is set; nil if none or several are.
func (c *Command) operation() operation {
	var op operation
	set := 0
	for _, o := range [...]struct {
		op  operation
		set bool
	}{
		{c.InitCluster, c.InitCluster != nil},
		{c.PutService, c.PutService != nil},
		{c.DeleteService, c.DeleteService != nil},
		{c.PutInstance, c.PutInstance != nil},
		{c.DeleteInstance, c.DeleteInstance != nil},
		{c.PutNode, c.PutNode != nil},
		{c.PutToken, c.PutToken != nil},
		{c.DeleteToken, c.DeleteToken != nil},
		{c.Place, c.Place != nil},
		{c.Report, c.Report != nil},
		{c.SyncFile, c.SyncFile != nil},
		{c.DescribeNode, c.DescribeNode != nil},
		{c.SetNode, c.SetNode != nil},
		{c.NodeStatus, c.NodeStatus != nil},
		{c.DeleteNode, c.DeleteNode != nil},
		{c.PutFleet, c.PutFleet != nil},
		{c.DeleteFleet, c.DeleteFleet != nil},
		{c.EndMove, c.EndMove != nil},
		{c.PutJoinToken, c.PutJoinToken != nil},
		{c.DeleteJoinToken, c.DeleteJoinToken != nil},
		{c.UseJoinToken, c.UseJoinToken != nil},
		{c.PutSecret, c.PutSecret != nil},
		{c.PutSealed, c.PutSealed != nil},
		{c.PutRoute, c.PutRoute != nil},
		{c.DeleteRoute, c.DeleteRoute != nil},
	} {
		if o.set {
			op = o.op
			set++
		}
	}
	if set != 1 {
		return nil
	}
	return op
}

// Valid reports whether exactly one operation is set.
func (c *Command) Valid() bool { return c.operation() != nil }

// Encode returns the command's bytes, to become part of an [Entry].
func (c *Command) Encode() ([]byte, error) {
	if c.operation() == nil {
		return nil, errors.New("encode command: want exactly one operation")
	}
	b, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode command: %w", err)
	}
	return b, nil
}

// Entry returns a log entry of encoded commands, for [Store.Apply] on every node. What
// they cost is mostly what an entry costs, so that many share one.
func Entry(commands ...[]byte) []byte {
	size := 1
	for _, c := range commands {
		size += len(c) + 1
	}
	entry := append(make([]byte, 0, size), Version)
	for _, c := range commands {
		entry = append(append(entry, c...), '\n')
	}
	return entry
}

// decoder reads the commands of an entry. It is strict: a field that it does not know
// means that a newer version gave it a meaning which this one would lose.
type decoder struct{ *json.Decoder }

func newDecoder(entry []byte) (decoder, error) {
	if len(entry) == 0 || entry[0] != Version {
		return decoder{}, fmt.Errorf("decode entry: %w: want format %d", ErrUnreadable, Version)
	}
	d := json.NewDecoder(bytes.NewReader(entry[1:]))
	d.DisallowUnknownFields()
	return decoder{d}, nil
}

// next returns the next command, nil after the last.
func (d decoder) next() (*Command, error) {
	var c Command
	err := d.Decode(&c)
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("decode command: %w: %w", ErrUnreadable, err)
	}
	if c.operation() == nil {
		return nil, fmt.Errorf("decode command: %w: want exactly one operation", ErrUnreadable)
	}
	return &c, nil
}
