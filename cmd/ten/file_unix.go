//go:build unix

package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/tenement-fleet/tenement/api/client"
)

// syncDirectory makes a rename in a directory durable.
func syncDirectory(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return nil
}

// isRefused reports whether nobody listens where the client tried to connect.
func isRefused(e *client.UnreachableError) bool {
	return errors.Is(e.Err, syscall.ECONNREFUSED) || notThere(e.Err)
}
