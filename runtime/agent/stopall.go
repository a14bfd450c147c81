package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/tenement-fleet/tenement/api"
)

// StopAll ends every program, for a ten that leaves nothing behind. What is desired and
// what was last reported stay, so that the next ten starts again what ran. Requests must
// no longer come in; Close follows. The error tells what still runs when ctx ends.
func (a *Agent) StopAll(ctx context.Context) error {
	a.reports.mute()
	a.mu.Lock()
	refs := make([]api.Ref, 0, len(a.supervisors))
	for ref := range a.supervisors {
		refs = append(refs, ref)
	}
	a.mu.Unlock()

	errs := make([]error, len(refs))
	var wg sync.WaitGroup
	for i, ref := range refs {
		wg.Go(func() {
			if err := a.Sleep(ctx, ref); err != nil && api.CodeOf(err) != api.CodeNotFound {
				errs[i] = fmt.Errorf("stop %s: %w", ref, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
