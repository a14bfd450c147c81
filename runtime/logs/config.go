package logs

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/tenement-fleet/tenement/api"
)

// Config says where logs are kept, for how long, and what capturing may cost. Zero
// fields get the defaults named below.
type Config struct {
	// Dir holds the store; it is made if need be, readable by its owner only. One
	// process uses it at a time.
	Dir string
	// IODir holds the pipes; {Dir}/io by default.
	IODir string

	// Entries are deleted when they are older than MaxAge (30 days), the oldest first
	// when the store exceeds MaxSize (1 GiB). Deletion goes by partitions, which are an
	// eighth of either: an entry may live up to an eighth longer than MaxAge.
	MaxAge  time.Duration
	MaxSize api.Size

	// What an instance may print: InstanceBurst bytes (16 MiB) at once, InstanceRate
	// bytes a second (1 MiB) for long; and all instances of the node together (64 MiB,
	// 8 MiB). A program that prints more waits in its write. The smallest burst is 64 KiB.
	InstanceRate, InstanceBurst api.Size
	NodeRate, NodeBurst         api.Size

	Logger     *slog.Logger
	Now        func() time.Time
	Registerer prometheus.Registerer // nil: no metrics

	bootID string // of the machine; set by tests only
}

const (
	// parts is how many partitions MaxSize and MaxAge are divided into.
	parts = 8
	// nodeSpool bounds what waits on disk to be indexed, all instances together.
	nodeSpool  = 256 * api.MiB
	leastBurst = 64 * api.KiB
)

func (c *Config) setDefaults() {
	set(&c.IODir, filepath.Join(c.Dir, "io"))
	set(&c.MaxAge, 30*24*time.Hour)
	set(&c.MaxSize, api.GiB)
	set(&c.InstanceRate, api.MiB)
	set(&c.InstanceBurst, 16*api.MiB)
	set(&c.NodeRate, 8*api.MiB)
	set(&c.NodeBurst, 64*api.MiB)
	set(&c.Logger, slog.New(slog.DiscardHandler))
	if c.Now == nil {
		c.Now = time.Now
	}
}

func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (c *Config) validate() error {
	check := func(name string, got, least api.Size) error {
		if got < least {
			return &api.FieldError{Field: name, Got: got.String(), Want: "at least " + least.String()}
		}
		return nil
	}
	for _, err := range []error{
		check("MaxSize", c.MaxSize, api.MiB),
		check("InstanceRate", c.InstanceRate, api.KiB),
		check("InstanceBurst", c.InstanceBurst, leastBurst),
		check("NodeRate", c.NodeRate, api.KiB),
		check("NodeBurst", c.NodeBurst, leastBurst),
	} {
		if err != nil {
			return err
		}
	}
	if c.Dir == "" {
		return &api.FieldError{Field: "Dir", Got: "", Want: "a directory"}
	}
	if c.MaxAge < time.Second {
		return &api.FieldError{Field: "MaxAge", Got: fmt.Sprint(c.MaxAge), Want: "at least 1s"}
	}
	return nil
}
