package agent

import (
	"fmt"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// gatePosition is one of the four positions of an instance's traffic gate.
type gatePosition uint8

const (
	gateAsleep gatePosition = iota // closed; a request wakes it
	gateOpen                       // requests flow
	gateDown                       // closed; requests for the instance wait
	gateHeld                       // closed; requests are refused
)

func (g gatePosition) String() string { return [...]string{"asleep", "open", "down", "held"}[g] }

// verb is what an action does.
type verb uint8

const (
	doGate      verb = iota // move the gate
	doFetch                 // fetch the data from where they are, until the cluster knows that they are here
	doQueue                 // wait for a start slot → granted
	doLaunch                // start the program → started, start failed, start refused
	doAwait                 // wait until it accepts connections → ready
	doCheck                 // check its health after a while → health ok, health failed
	doDrain                 // wait for the accepted requests, bounded → drained
	doTerminate             // ask the process to end → exit …
	doKill                  // end it for sure → exit …
	doPutAway               // free what the run held, and purge the data if asked → ended
	doAnswer                // let everybody go who waits for the instance to be up
	doComplain              // the event was impossible: a bug worth a line in the log
)

var verbNames = [...]string{
	"gate", "fetch", "queue", "launch", "await", "check", "drain", "terminate", "kill", "put away", "answer", "complain",
}

// action is one thing that the supervisor does after a transition.
type action struct {
	do    verb
	gate  gatePosition
	code  api.Code      // of an answer; empty is success
	after time.Duration // of a check; of an answer, how soon to try again
	purge bool
}

// String is the form in which the golden transition table shows an action.
func (a action) String() string {
	s := verbNames[a.do]
	switch a.do {
	case doGate:
		return s + " " + a.gate.String()
	case doAnswer:
		if a.code == "" {
			return s + " ok"
		}
		return s + " " + string(a.code)
	case doCheck:
		return fmt.Sprintf("%s in %s", s, a.after)
	case doPutAway:
		if a.purge {
			return s + " and purge"
		}
	}
	return s
}
