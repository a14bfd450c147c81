package server

import (
	"context"
	"io"

	"github.com/tenement-fleet/tenement/api"
)

// SaveSnapshot implements httpapi.Members.
func (m members) SaveSnapshot(ctx context.Context, w io.Writer) error {
	v, err := m.consensus.ConsistentView(ctx)
	if err != nil {
		return err
	}
	_, err = v.WriteTo(w)
	return err
}

// RestoreSnapshot implements httpapi.Members.
func (m members) RestoreSnapshot(context.Context, io.Reader, bool) error {
	return api.Errorf(api.CodeConflict, "restore snapshot: this build can't yet")
}
