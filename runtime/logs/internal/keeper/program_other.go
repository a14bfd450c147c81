//go:build !amd64 && !arm64

package keeper

import (
	"errors"
	"os"
)

func program() (*os.File, error) {
	return nil, errors.New("make keeper: there is none for this architecture")
}
