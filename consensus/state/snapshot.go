package state

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/tenement-fleet/tenement/api"
)

// A snapshot is JSON, one value a line: a header, one line an object in order of kind
// and key, and an end that counts them. The same state gives the same bytes.

const (
	snapshotFormat  = "tenement state"
	snapshotVersion = 1
)

type snapshotHeader struct {
	Format    string `json:"format"`
	Version   int    `json:"version"`
	Index     uint64 `json:"index"`
	ClusterID string `json:"cluster_id"`
	// StateVersion is set once it is more than 1. A build that does not know it is too old
	// to understand the rest, and refuses the snapshot for it.
	StateVersion int `json:"state_version,omitempty"`
}

// snapshotLine is every other line; one field is set.
type snapshotLine struct {
	Node     *api.Node     `json:"node,omitempty"`
	Service  *api.Service  `json:"service,omitempty"`
	Instance *api.Instance `json:"instance,omitempty"`
	Token    *api.Token    `json:"token,omitempty"`
	End      *snapshotEnd  `json:"end,omitempty"`

	Fleet     *api.Fleet     `json:"fleet,omitempty"`
	JoinToken *api.JoinToken `json:"join_token,omitempty"`
	Secret    *Secret        `json:"secret,omitempty"`
}

type snapshotEnd struct {
	Objects int `json:"objects"`
}

// WriteTo writes the view as a snapshot.
func (v *View) WriteTo(w io.Writer) (int64, error) {
	out := &countingWriter{w: bufio.NewWriterSize(w, 64<<10)}
	if err := v.writeLines(json.NewEncoder(out)); err != nil {
		return out.n, fmt.Errorf("write snapshot: %w", err)
	}
	if err := out.w.Flush(); err != nil {
		return out.n, fmt.Errorf("write snapshot: %w", err)
	}
	return out.n, nil
}

func (v *View) writeLines(enc *json.Encoder) error {
	if err := enc.Encode(snapshotHeader{snapshotFormat, snapshotVersion, v.index, v.clusterID, v.stateVersion}); err != nil {
		return err
	}
	// Nodes and services first: restoring an instance looks both up.
	for n := range v.Nodes() {
		if err := enc.Encode(snapshotLine{Node: n}); err != nil {
			return err
		}
	}
	for s := range v.services.all() {
		if err := enc.Encode(snapshotLine{Service: s.spec}); err != nil {
			return err
		}
	}
	for f := range v.fleets.all() {
		if err := enc.Encode(snapshotLine{Fleet: f}); err != nil {
			return err
		}
	}
	for i := range v.instances.all() {
		if err := enc.Encode(snapshotLine{Instance: i}); err != nil {
			return err
		}
	}
	for t := range v.tokens.all() {
		if err := enc.Encode(snapshotLine{Token: t}); err != nil {
			return err
		}
	}
	for t := range v.joinTokens.all() {
		if err := enc.Encode(snapshotLine{JoinToken: t}); err != nil {
			return err
		}
	}
	if v.secret != nil {
		if err := enc.Encode(snapshotLine{Secret: v.secret}); err != nil {
			return err
		}
	}
	return enc.Encode(snapshotLine{End: &snapshotEnd{Objects: v.objects()}})
}

func (d *data) objects() int {
	n := d.nodes.len + d.services.len + d.fleets.len + d.instances.len + d.tokens.len + d.joinTokens.len
	if d.secret != nil {
		n++
	}
	return n
}

type countingWriter struct {
	w *bufio.Writer
	n int64
}

func (c *countingWriter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

// readSnapshot reads what WriteTo wrote, as strictly as decode reads commands.
func readSnapshot(r io.Reader, w *weights) (data, error) {
	dec := json.NewDecoder(r)
	dec.DisallowUnknownFields()
	d, err := readLines(dec, w)
	if err != nil {
		return data{}, fmt.Errorf("read snapshot: %w: %w", ErrUnreadable, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return data{}, fmt.Errorf("read snapshot: %w: something follows its end", ErrUnreadable)
	}
	return d, nil
}

func readLines(dec *json.Decoder, w *weights) (data, error) {
	var h snapshotHeader
	if err := dec.Decode(&h); err != nil {
		return data{}, fmt.Errorf("header: %w", err)
	}
	if h.Format != snapshotFormat || h.Version != snapshotVersion || h.StateVersion > StateVersion {
		return data{}, fmt.Errorf("header: got %q version %d of state %d, want %q version %d of state %d at most",
			h.Format, h.Version, h.StateVersion, snapshotFormat, snapshotVersion, StateVersion)
	}
	d := newData()
	d.index, d.clusterID, d.stateVersion = h.Index, h.ClusterID, h.StateVersion
	for n := 1; ; n++ {
		var line snapshotLine
		if err := dec.Decode(&line); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return data{}, fmt.Errorf("object %d: %w", n, err)
		}
		if line.End != nil {
			if line != (snapshotLine{End: line.End}) || line.End.Objects != d.objects() || n-1 != d.objects() {
				return data{}, fmt.Errorf("end: got %d objects, want %d", d.objects(), line.End.Objects)
			}
			return d, d.checkFleets()
		}
		if err := d.restore(&line, w); err != nil {
			return data{}, fmt.Errorf("object %d: %w", n, err)
		}
	}
}

func (d *data) restore(line *snapshotLine, w *weights) error {
	switch *line {
	case snapshotLine{Node: line.Node}:
		if line.Node == nil || line.Node.ID == "" {
			return errors.New("a line without an object, or a node without id")
		}
		d.setNode(line.Node)
	case snapshotLine{Service: line.Service}:
		if line.Service.Name == "" {
			return errors.New("a service without name")
		}
		d.services = d.services.put(&service{spec: line.Service})
	case snapshotLine{Fleet: line.Fleet}:
		if _, ok := d.services.get(line.Fleet.Service); !ok || line.Fleet.Name == "" {
			return fmt.Errorf("fleet %s without name, or without its service before it", line.Fleet.Ref())
		}
		d.fleets = d.fleets.put(line.Fleet)
	case snapshotLine{Instance: line.Instance}:
		return d.restoreInstance(line.Instance, w)
	case snapshotLine{Token: line.Token}:
		if line.Token.ID == "" {
			return errors.New("a token without id")
		}
		d.tokens = d.tokens.put(line.Token)
	case snapshotLine{JoinToken: line.JoinToken}:
		if line.JoinToken.ID == "" {
			return errors.New("a join token without id")
		}
		d.joinTokens = d.joinTokens.put(line.JoinToken)
	case snapshotLine{Secret: line.Secret}:
		d.secret = line.Secret
	default:
		return errors.New("several objects on one line")
	}
	return nil
}

func (d *data) restoreInstance(i *api.Instance, w *weights) error {
	if _, ok := d.services.get(i.Service); !ok || i.ID == "" {
		return fmt.Errorf("instance %s without id, or without its service before it", i.Ref())
	}
	if _, ok := d.nodes.get(i.Node); !ok && i.Node != "" {
		return fmt.Errorf("instance %s on node %s, which is not there", i.Ref(), i.Node)
	}
	if i.Previous != nil && i.Previous.Node == i.Node || i.DataNode != "" && i.DataNode == i.Node {
		return fmt.Errorf("instance %s moves from its own node", i.Ref())
	}
	d.compact(i, w)
	d.setInstance(i)
	return nil
}

// checkFleets returns an error unless each fleet has its members and nobody else is one.
func (d *data) checkFleets() error {
	members := 0
	for f := range d.fleets.all() {
		for n := range f.Replicas {
			if i, ok := d.instances.get(f.Member(n)); !ok || i.Fleet != f.Name {
				return fmt.Errorf("fleet %s without its member %s", f.Ref(), f.Member(n))
			}
		}
		if f.Replicas < 0 {
			return fmt.Errorf("fleet %s with %d replicas", f.Ref(), f.Replicas)
		}
		members += f.Replicas
	}
	for i := range d.instances.all() {
		if i.Fleet != "" {
			members--
		}
	}
	if members != 0 {
		return errors.New("instances are members of fleets that they are not part of")
	}
	return nil
}
