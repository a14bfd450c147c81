package consensus

import (
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"
)

// Testing is how simulations in other packages get between a node and its machine.
type Testing struct {
	// OpenLog opens the store of Raft's log, term and vote, instead of a file in dir.
	OpenLog func(dir string) (LogFile, error)
	// Tune changes Raft's settings.
	Tune func(*raft.Config)
	// Patience is how long the disk may keep Raft waiting; 0 for what servers have. False
	// time goes on while a machine is stopped, and the watchdog with it.
	Patience time.Duration
}

// LogFile holds Raft's log, term and vote.
type LogFile interface {
	raft.LogStore
	raft.StableStore
	Close() error
}

func (t *Testing) apply(c *Config) {
	if t == nil {
		return
	}
	if c.tune == nil {
		c.tune = t.Tune
	}
	setDefault(&c.patience, t.Patience)
}

// openLog opens the log in dir.
func (n *Node) openLog(dir string) (rawStore, error) {
	if t := n.cfg.Testing; t != nil && t.OpenLog != nil {
		return t.OpenLog(dir)
	}
	return openBolt(filepath.Join(dir, logFile), n.cfg.LockWait)
}
