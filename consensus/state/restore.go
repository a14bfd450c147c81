package state

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/tenement-fleet/tenement/api"
)

// restorer reads what View.WriteTo wrote, as strictly as commands are read.
type restorer struct {
	data
	weights *weights
	parser  instanceParser
	// read are the instances so far: their trees are built when all are there.
	read []*api.Instance
}

func readSnapshot(from io.Reader, w *weights) (data, error) {
	r := restorer{data: newData(), weights: w, parser: instanceParser{shared: map[string]string{}}}
	if err := r.readLines(&lineReader{r: bufio.NewReaderSize(from, 64<<10)}); err != nil {
		return data{}, fmt.Errorf("read snapshot: %w: %w", ErrUnreadable, err)
	}
	return r.data, nil
}

func (r *restorer) readLines(in *lineReader) error {
	b, err := in.next()
	if err != nil {
		return fmt.Errorf("header: %w", noEOF(err))
	}
	var h snapshotHeader
	if err := decodeStrict(b, &h); err != nil {
		return fmt.Errorf("header: %w", err)
	}
	if h.Format != snapshotFormat || h.Version != snapshotVersion || h.StateVersion > StateVersion {
		return fmt.Errorf("header: got %q version %d of state %d, want %q version %d of state %d at most",
			h.Format, h.Version, h.StateVersion, snapshotFormat, snapshotVersion, StateVersion)
	}
	r.index, r.clusterID, r.stateVersion = h.Index, h.ClusterID, h.StateVersion
	for n := 0; ; n++ {
		b, err := in.next()
		if err != nil {
			return fmt.Errorf("object %d: %w", n+1, noEOF(err))
		}
		end, err := r.line(b)
		if err != nil {
			return fmt.Errorf("object %d: %w", n+1, err)
		}
		if end == nil {
			continue
		}
		if _, err := in.next(); !errors.Is(err, io.EOF) {
			return errors.New("something follows its end")
		}
		return r.finish(n, end.Objects)
	}
}

// line reads an object, or the end.
func (r *restorer) line(b []byte) (*snapshotEnd, error) {
	if i, ok := r.parser.parse(b, beforeInstance, afterInstance); ok {
		return nil, r.instance(i)
	}
	var l snapshotLine
	if err := decodeStrict(b, &l); err != nil {
		return nil, err
	}
	switch l {
	case snapshotLine{End: l.End}:
		if l.End == nil {
			return nil, errors.New("a line without an object")
		}
		return l.End, nil
	case snapshotLine{Instance: l.Instance}:
		return nil, r.instance(l.Instance)
	default:
		return nil, r.object(&l)
	}
}

func (r *restorer) object(l *snapshotLine) error {
	switch *l {
	case snapshotLine{Node: l.Node}:
		if l.Node.ID == "" {
			return errors.New("a node without id")
		}
		r.setNode(l.Node)
	case snapshotLine{Service: l.Service}:
		if l.Service.Name == "" {
			return errors.New("a service without name")
		}
		r.services = r.services.put(&service{spec: l.Service})
	case snapshotLine{Fleet: l.Fleet}:
		if _, ok := r.services.get(l.Fleet.Service); !ok || l.Fleet.Name == "" {
			return fmt.Errorf("fleet %s without name, or without its service before it", l.Fleet.Ref())
		}
		r.fleets = r.fleets.put(l.Fleet)
	case snapshotLine{Token: l.Token}:
		if l.Token.ID == "" {
			return errors.New("a token without id")
		}
		r.tokens = r.tokens.put(l.Token)
	case snapshotLine{JoinToken: l.JoinToken}:
		if l.JoinToken.ID == "" {
			return errors.New("a join token without id")
		}
		r.joinTokens = r.joinTokens.put(l.JoinToken)
	case snapshotLine{Secret: l.Secret}:
		r.secret = l.Secret
	case snapshotLine{Sealed: l.Sealed}:
		if l.Sealed.Name == "" {
			return errors.New("a sealed value without name")
		}
		r.sealed = r.sealed.put(l.Sealed)
	case snapshotLine{Route: l.Route}:
		if _, again := r.routes.get(l.Route.Name); again || l.Route.Name == "" {
			return errors.New("a route without name, or a second time")
		}
		return r.setRoute(l.Route)
	default:
		return errors.New("several objects on one line")
	}
	return nil
}

func (r *restorer) instance(i *api.Instance) error {
	if _, ok := r.services.get(i.Service); !ok || i.ID == "" {
		return fmt.Errorf("instance %s without id, or without its service before it", i.Ref())
	}
	if _, ok := r.nodes.get(i.Node); !ok && i.Node != "" {
		return fmt.Errorf("instance %s on node %s, which is not before it", i.Ref(), i.Node)
	}
	if i.Previous != nil && i.Previous.Node == i.Node || i.DataNode != "" && i.DataNode == i.Node {
		return fmt.Errorf("instance %s moves from its own node", i.Ref())
	}
	if n := len(r.read); n > 0 && compareRefs(r.read[n-1].Ref(), i.Ref()) >= 0 {
		return fmt.Errorf("instance %s after %s", i.Ref(), r.read[n-1].Ref())
	}
	r.compact(i, r.weights)
	r.read = append(r.read, i)
	return nil
}

// finish builds what is derived from the instances, and checks the whole.
func (r *restorer) finish(lines, want int) error {
	r.instances = instancesByRef.build(r.read)
	byNode, moving, perService := map[string][]*api.Instance{}, []*api.Instance{}, map[string]int{}
	for _, i := range r.read {
		byNode[i.Node] = append(byNode[i.Node], i)
		perService[i.Service]++
		if isMoving(i) {
			moving = append(moving, i)
		}
	}
	r.moving = instancesByRef.build(moving)
	for name, n := range perService {
		r.count(name, n)
	}
	sorted := r.read[:0] // the same instances once more
	for _, id := range slices.Sorted(maps.Keys(byNode)) {
		r.countOn(id, len(byNode[id]))
		sorted = append(sorted, byNode[id]...)
	}
	r.byNode = instancesByNode.build(sorted)
	if got := r.objects(); got != want || got != lines {
		return fmt.Errorf("end: got %d objects on %d lines, want %d", got, lines, want)
	}
	return r.checkFleets()
}

// checkFleets returns an error unless each fleet has its members and nobody else is one.
func (d *data) checkFleets() error {
	members := 0
	for f := range d.fleets.all() {
		for n := range f.Replicas {
			i, ok := d.instances.get(f.Member(n))
			if !ok || i.Fleet != f.Name || i.Source != api.SourceFleet || i.EffectiveWeight() != f.EffectiveWeight() {
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

// decodeStrict decodes b, which holds one value, of which it knows every field.
func decodeStrict(b []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return noEOF(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("several values on one line")
	}
	return nil
}

// noEOF makes the end of the input an error where there should be more.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// lineReader reads lines of any length into memory of its own.
type lineReader struct {
	r    *bufio.Reader
	long []byte
}

// next returns a line with its end, valid until the next call.
func (l *lineReader) next() ([]byte, error) {
	b, err := l.r.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		if len(b) > 0 && errors.Is(err, io.EOF) {
			err = nil // a last line without an end
		}
		return b, err
	}
	l.long = l.long[:0]
	for errors.Is(err, bufio.ErrBufferFull) {
		l.long = append(l.long, b...)
		b, err = l.r.ReadSlice('\n')
	}
	l.long = append(l.long, b...)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return l.long, err
}
