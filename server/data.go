package server

import (
	"context"
	"io"

	"github.com/tenement-fleet/tenement/api"
)

func (l local) SendData(context.Context, api.Ref, string, io.Writer) error {
	return api.Errorf(api.CodeUnavailable, "not yet")
}
