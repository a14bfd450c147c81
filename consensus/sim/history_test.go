package sim

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anishathalye/porcupine"
)

// history is what clients did to registers and saw of them.
type history struct {
	ticks atomic.Int64 // orders calls and returns: the time stands still too often
	mu    sync.Mutex
	now   []*register
	past  []*register
}

// register is one object, for as long as its history is short enough to be checked.
type register struct {
	name  string
	born  time.Time
	mu    sync.Mutex
	ops   []porcupine.Operation
	open  int               // whose outcome nobody knows
	known map[string]uint64 // revisions of values
}

type kind int

const (
	read kind = iota
	write
	swap // write if the value is still the old one
)

type input struct {
	kind     kind
	old, new string
}

type output struct {
	value   string // that was read
	swapped bool
	unknown bool
}

// registers is a model for porcupine: one string. An operation without an answer may
// happen at any time, or at the end, where nobody sees it.
var registers = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, in, out any) (bool, any) {
		s, i, o := state.(string), in.(input), out.(output)
		switch i.kind {
		case read:
			return o.value == s, s
		case write:
			return true, i.new
		default:
			if o.unknown {
				if s == i.old {
					return true, i.new
				}
				return true, s
			}
			if o.swapped {
				return s == i.old, i.new
			}
			return s != i.old, s
		}
	},
	DescribeOperation: func(in, out any) string { return fmt.Sprintf("%+v → %+v", in, out) },
}

const (
	registersAtOnce = 4
	maxOps          = 150
	maxOpen         = 6
	maxAge          = 90 * time.Second
)

func (h *history) init() {
	for range registersAtOnce {
		h.now = append(h.now, h.fresh())
	}
}

func (h *history) fresh() *register {
	return &register{name: fmt.Sprintf("reg-%d", len(h.now)+len(h.past)), born: time.Now(), known: map[string]uint64{}}
}

// pick returns a register that may be used.
func (h *history) pick(i int) *register {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.now[i%len(h.now)]
	r.mu.Lock()
	used := len(r.ops) >= maxOps || r.open >= maxOpen || time.Since(r.born) > maxAge
	r.mu.Unlock()
	if used {
		h.past = append(h.past, r)
		r = h.fresh()
		h.now[i%len(h.now)] = r
	}
	return r
}

// called returns a function that notes the outcome of an operation.
func (h *history) called(r *register, client int, in input) (returned func(output)) {
	call := h.ticks.Add(1)
	return func(out output) {
		op := porcupine.Operation{ClientId: client, Input: in, Call: call, Output: out, Return: h.ticks.Add(1)}
		r.mu.Lock()
		defer r.mu.Unlock()
		if out.unknown {
			if in.kind == read {
				return
			}
			op.Return = math.MaxInt64
			r.open++
		}
		r.ops = append(r.ops, op)
	}
}

// checkWithin bounds the check of one register: it is exponential at worst.
const checkWithin = 20 * time.Second

// check returns what is not linearizable, and how many registers took too long to tell.
func (h *history) check() (wrong []string, ops, undecided int) {
	for _, r := range append(h.past, h.now...) {
		ops += len(r.ops)
		switch porcupine.CheckOperationsTimeout(registers, r.ops, checkWithin) {
		case porcupine.Illegal:
			wrong = append(wrong, fmt.Sprintf("the history of %s is not linearizable (%d operations)", r.name, len(r.ops)))
		case porcupine.Unknown:
			undecided++
		}
	}
	return wrong, ops, undecided
}
