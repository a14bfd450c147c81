//go:build amd64 || arm64

package keeper

import (
	"os"

	"github.com/tenement-fleet/tenement/runtime/tiny"
)

// program makes the keeper; the assembly says what it does.
func program() (*os.File, error) { return tiny.New(memoryName, keeperCode()) }

// keeperCode returns the address of the keeper's code in this program.
func keeperCode() uintptr
