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
}

// snapshotLine is every other line; one field is set.
type snapshotLine struct {
	Node     *api.Node     `json:"node,omitempty"`
	Service  *api.Service  `json:"service,omitempty"`
	Instance *api.Instance `json:"instance,omitempty"`
	Token    *api.Token    `json:"token,omitempty"`
	End      *snapshotEnd  `json:"end,omitempty"`
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
	if err := enc.Encode(snapshotHeader{snapshotFormat, snapshotVersion, v.index, v.clusterID}); err != nil {
		return err
	}
	// Nodes and services first: restoring an instance looks both up.
	for n := range v.nodes.all() {
		if err := enc.Encode(snapshotLine{Node: n}); err != nil {
			return err
		}
	}
	for s := range v.services.all() {
		if err := enc.Encode(snapshotLine{Service: s.spec}); err != nil {
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
	return enc.Encode(snapshotLine{End: &snapshotEnd{Objects: v.objects()}})
}

func (d *data) objects() int {
	return d.nodes.len + d.services.len + d.instances.len + d.tokens.len
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
	if h.Format != snapshotFormat || h.Version != snapshotVersion {
		return data{}, fmt.Errorf("header: got %q version %d, want %q version %d",
			h.Format, h.Version, snapshotFormat, snapshotVersion)
	}
	d := newData()
	d.index, d.clusterID = h.Index, h.ClusterID
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
			return d, nil
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
		d.nodes = d.nodes.put(line.Node)
	case snapshotLine{Service: line.Service}:
		if line.Service.Name == "" {
			return errors.New("a service without name")
		}
		d.services = d.services.put(&service{spec: line.Service})
	case snapshotLine{Instance: line.Instance}:
		i := line.Instance
		if _, ok := d.services.get(i.Service); !ok || i.ID == "" {
			return fmt.Errorf("instance %s without id, or without its service before it", i.Ref())
		}
		d.compact(i, w)
		d.setInstance(i)
	case snapshotLine{Token: line.Token}:
		if line.Token.ID == "" {
			return errors.New("a token without id")
		}
		d.tokens = d.tokens.put(line.Token)
	default:
		return errors.New("several objects on one line")
	}
	return nil
}
