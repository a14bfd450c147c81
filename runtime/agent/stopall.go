package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/tenement-fleet/tenement/api"
)

// StopAll ends every program, for a ten that leaves nothing behind. What is desired and
// what was last reported stay, so that the next ten starts again what ran. Requests must
// no longer come in; Close follows. The error tells what still runs when ctx ends.
func (a *Agent) StopAll(ctx context.Context) error {
	a.reports.mute()
	a.mu.Lock()
	a.leaving = true // or a late Changed would start what was just ended
	refs := slices.Collect(maps.Keys(a.supervisors))
	a.mu.Unlock()

	errs := make([]error, len(refs))
	var wg sync.WaitGroup
	for i, ref := range refs {
		wg.Go(func() {
			switch err := a.ask(ctx, ref, onSleep); api.CodeOf(err) {
			case "", api.CodeNotFound, api.CodeUnavailable: // it has no process any more
			default:
				errs[i] = fmt.Errorf("stop %s: %w", ref, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
