package state

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// A snapshot is mostly instances, a million perhaps, and encoding/json takes five times as
// long for each as is needed. jsonWriter.instance writes the bytes that encoding/json
// would; instanceParser reads such bytes, and gives up on all others, which are left to
// encoding/json. So neither has a say in what the format is, and tests hold both to it.

// jsonWriter appends JSON to b, until something can't be JSON.
type jsonWriter struct {
	b   []byte
	err error
}

func (w *jsonWriter) raw(s string) { w.b = append(w.b, s...) }

func (w *jsonWriter) value(v any) {
	b, err := json.Marshal(v)
	if err != nil {
		w.err = err
	}
	w.b = append(w.b, b...)
}

// str appends a string after what comes before it.
func (w *jsonWriter) str(before, s string) {
	w.raw(before)
	for i := range len(s) {
		if c := s[i]; !plain(c) || c == '<' || c == '>' || c == '&' {
			w.value(s)
			return
		}
	}
	w.b = append(append(append(w.b, '"'), s...), '"')
}

// optional leaves out what is empty.
func (w *jsonWriter) optional(before, s string) {
	if s != "" {
		w.str(before, s)
	}
}

func (w *jsonWriter) integer(before string, n int64) {
	w.raw(before)
	w.b = strconv.AppendInt(w.b, n, 10)
}

func (w *jsonWriter) number(before string, n uint64) {
	w.raw(before)
	w.b = strconv.AppendUint(w.b, n, 10)
}

func (w *jsonWriter) time(before string, t time.Time) {
	w.raw(before + `"`)
	b, err := t.AppendText(w.b)
	if err != nil {
		w.err = err
		return
	}
	w.b = append(b, '"')
}

// plain reports whether c stands for itself in a JSON string.
func plain(c byte) bool { return ' ' <= c && c <= '~' && c != '"' && c != '\\' }

func (w *jsonWriter) instance(i *api.Instance) {
	w.str(`{"service":`, i.Service)
	w.str(`,"id":`, i.ID)
	w.str(`,"desired":`, string(i.Desired))
	if i.Weight != nil {
		w.integer(`,"weight":`, int64(*i.Weight))
	} else {
		w.raw(`,"weight":null`)
	}
	w.optional(`,"pin":`, i.Pin)
	w.str(`,"source":`, string(i.Source))
	w.optional(`,"source_node":`, i.SourceNode)
	w.optional(`,"fleet":`, i.Fleet)
	if i.Revision != 0 {
		w.number(`,"revision":`, i.Revision)
	}
	if !i.CreatedAt.IsZero() {
		w.time(`,"created_at":`, i.CreatedAt)
	}
	w.optional(`,"node":`, i.Node)
	if i.Generation != 0 {
		w.number(`,"generation":`, i.Generation)
	}
	if i.Previous != nil {
		w.str(`,"previous":{"node":`, i.Previous.Node)
		w.number(`,"generation":`, i.Previous.Generation)
		w.raw("}")
	}
	w.optional(`,"data_node":`, i.DataNode)
	if i.Observed != nil {
		w.observed(i.Observed)
	}
	w.raw("}")
}

func (w *jsonWriter) observed(o *api.Observed) {
	w.str(`,"observed":{"state":`, string(o.State))
	w.optional(`,"reason":`, o.Reason)
	if o.PID != 0 {
		w.integer(`,"pid":`, int64(o.PID))
	}
	if o.Endpoint != nil {
		w.str(`,"endpoint":{"network":`, o.Endpoint.Network)
		w.str(`,"address":`, o.Endpoint.Address)
		w.raw("}")
	}
	w.integer(`,"restarts":`, int64(o.Restarts))
	if o.ExitCode != nil {
		w.integer(`,"exit_code":`, int64(*o.ExitCode))
	}
	w.time(`,"since":`, o.Since)
	if o.ServiceRevision != 0 {
		w.number(`,"service_revision":`, o.ServiceRevision)
	}
	w.number(`,"generation":`, o.Generation)
	if o.Healthy {
		w.raw(`,"healthy":true`)
	}
	w.optional(`,"desired":`, string(o.Desired))
	w.raw("}")
}

// instanceParser reads what jsonWriter.instance wrote.
type instanceParser struct {
	rest []byte
	ok   bool // so far
	// shared holds the strings that many instances have in common.
	shared map[string]string
}

// parse reads an instance between two literals; it reports whether it could.
func (p *instanceParser) parse(line []byte, before, after string) (*api.Instance, bool) {
	p.rest, p.ok = line, true
	var i api.Instance
	p.must(before)
	p.instance(&i)
	p.must(after)
	return &i, p.ok && len(p.rest) == 0
}

// has skips the literal if it comes next.
func (p *instanceParser) has(literal string) bool {
	if len(p.rest) < len(literal) || string(p.rest[:len(literal)]) != literal {
		return false
	}
	p.rest = p.rest[len(literal):]
	return true
}

func (p *instanceParser) must(literal string) { p.ok = p.has(literal) && p.ok }

// text reads a string of bytes that stand for themselves.
func (p *instanceParser) text() []byte {
	p.must(`"`)
	for n, c := range p.rest {
		if c == '"' {
			s := p.rest[:n]
			p.rest = p.rest[n+1:]
			return s
		}
		if !plain(c) {
			break
		}
	}
	p.ok = false
	return nil
}

// word reads a string that other instances have as well.
func (p *instanceParser) word() string {
	b := p.text()
	if s, ok := p.shared[string(b)]; ok {
		return s
	}
	s := string(b)
	p.shared[s] = s
	return s
}

func (p *instanceParser) optional(before string) string {
	if p.has(before) {
		return p.word()
	}
	return ""
}

// number reads a number short enough not to overflow.
func (p *instanceParser) number() uint64 {
	var n uint64
	for i, c := range p.rest {
		if c < '0' || c > '9' {
			p.ok = p.ok && 0 < i && i < 19 && (p.rest[0] != '0' || i == 1)
			p.rest = p.rest[i:]
			return n
		}
		n = 10*n + uint64(c-'0')
	}
	p.ok = false
	return 0
}

func (p *instanceParser) integer() int {
	if p.has("-") {
		if p.has("0") {
			p.ok = false
		}
		return -int(p.number()) //nolint:gosec // below 10^18
	}
	return int(p.number()) //nolint:gosec // below 10^18
}

func (p *instanceParser) time(t *time.Time) {
	b := p.text()
	if p.ok {
		p.ok = t.UnmarshalText(b) == nil
	}
}

func (p *instanceParser) instance(i *api.Instance) {
	p.must(`{"service":`)
	i.Service = p.word()
	p.must(`,"id":`)
	i.ID = string(p.text())
	p.must(`,"desired":`)
	i.Desired = api.Desired(p.word())
	p.must(`,"weight":`)
	if !p.has("null") {
		n := p.integer()
		i.Weight = &n
	}
	i.Pin = p.optional(`,"pin":`)
	p.must(`,"source":`)
	i.Source = api.Source(p.word())
	i.SourceNode = p.optional(`,"source_node":`)
	i.Fleet = p.optional(`,"fleet":`)
	if p.has(`,"revision":`) {
		i.Revision = p.number()
	}
	if p.has(`,"created_at":`) {
		p.time(&i.CreatedAt)
	}
	i.Node = p.optional(`,"node":`)
	if p.has(`,"generation":`) {
		i.Generation = p.number()
	}
	if p.has(`,"previous":{"node":`) {
		i.Previous = &api.Previous{Node: p.word()}
		p.must(`,"generation":`)
		i.Previous.Generation = p.number()
		p.must("}")
	}
	i.DataNode = p.optional(`,"data_node":`)
	if p.has(`,"observed":`) {
		i.Observed = new(api.Observed)
		p.observed(i.Observed)
	}
	p.must("}")
}

func (p *instanceParser) observed(o *api.Observed) {
	p.must(`{"state":`)
	o.State = api.State(p.word())
	if p.has(`,"reason":`) {
		o.Reason = string(p.text())
	}
	if p.has(`,"pid":`) {
		o.PID = p.integer()
	}
	if p.has(`,"endpoint":{"network":`) {
		o.Endpoint = &api.Endpoint{Network: p.word()}
		p.must(`,"address":`)
		o.Endpoint.Address = string(p.text())
		p.must("}")
	}
	p.must(`,"restarts":`)
	o.Restarts = p.integer()
	if p.has(`,"exit_code":`) {
		n := p.integer()
		o.ExitCode = &n
	}
	p.must(`,"since":`)
	p.time(&o.Since)
	if p.has(`,"service_revision":`) {
		o.ServiceRevision = p.number()
	}
	p.must(`,"generation":`)
	o.Generation = p.number()
	o.Healthy = p.has(`,"healthy":true`)
	o.Desired = api.Desired(p.optional(`,"desired":`))
	p.must("}")
}
