//go:build !unix

package fake

import "os"

// duplicate returns nil: here the fake prints nothing.
func duplicate(*os.File) (*os.File, error) { return nil, nil }
