package state

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"iter"

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
	Sealed    *Sealed        `json:"sealed,omitempty"`
	Route     *api.Route     `json:"route,omitempty"`
}

type snapshotEnd struct {
	Objects int `json:"objects"`
}

// WriteTo writes the view as a snapshot.
func (v *View) WriteTo(w io.Writer) (int64, error) {
	out := &countingWriter{w: bufio.NewWriterSize(w, 64<<10)}
	if err := v.writeLines(out); err != nil {
		return out.n, fmt.Errorf("write snapshot: %w", err)
	}
	if err := out.w.Flush(); err != nil {
		return out.n, fmt.Errorf("write snapshot: %w", err)
	}
	return out.n, nil
}

func (v *View) writeLines(out io.Writer) error {
	enc := json.NewEncoder(out)
	if err := enc.Encode(snapshotHeader{snapshotFormat, snapshotVersion, v.index, v.clusterID, v.stateVersion}); err != nil {
		return err
	}
	// Nodes, services and fleets first: restoring an instance looks them up.
	if err := writeAll(enc, v.Nodes(), func(n *api.Node) snapshotLine { return snapshotLine{Node: n} }); err != nil {
		return err
	}
	if err := writeAll(enc, v.Services(), func(s *api.Service) snapshotLine { return snapshotLine{Service: s} }); err != nil {
		return err
	}
	if err := writeAll(enc, v.fleets.all(), func(f *api.Fleet) snapshotLine { return snapshotLine{Fleet: f} }); err != nil {
		return err
	}
	if err := v.writeInstances(out); err != nil {
		return err
	}
	if err := writeAll(enc, v.tokens.all(), func(t *api.Token) snapshotLine { return snapshotLine{Token: t} }); err != nil {
		return err
	}
	if err := writeAll(enc, v.joinTokens.all(), func(t *api.JoinToken) snapshotLine { return snapshotLine{JoinToken: t} }); err != nil {
		return err
	}
	if v.secret != nil {
		if err := enc.Encode(snapshotLine{Secret: v.secret}); err != nil {
			return err
		}
	}
	if err := writeAll(enc, v.sealed.all(), func(s *Sealed) snapshotLine { return snapshotLine{Sealed: s} }); err != nil {
		return err
	}
	if err := writeAll(enc, v.routes.all(), func(r *api.Route) snapshotLine { return snapshotLine{Route: r} }); err != nil {
		return err
	}
	return enc.Encode(snapshotLine{End: &snapshotEnd{Objects: v.objects()}})
}

func writeAll[T any](enc *json.Encoder, all iter.Seq[*T], line func(*T) snapshotLine) error {
	for object := range all {
		if err := enc.Encode(line(object)); err != nil {
			return err
		}
	}
	return nil
}

const (
	beforeInstance = `{"instance":`
	afterInstance  = "}\n"
)

// writeInstances writes what enc.Encode(snapshotLine{Instance: i}) would.
func (v *View) writeInstances(out io.Writer) error {
	var line jsonWriter
	for i := range v.instances.all() {
		line.b = append(line.b[:0], beforeInstance...)
		line.instance(i)
		line.raw(afterInstance)
		if line.err != nil {
			return line.err
		}
		if _, err := out.Write(line.b); err != nil {
			return err
		}
	}
	return nil
}

func (d *data) objects() int {
	n := d.nodes.len + d.services.len + d.fleets.len + d.instances.len + d.tokens.len + d.joinTokens.len + d.sealed.len + d.routes.len
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
