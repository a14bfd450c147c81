//go:build !unix

package main

import "github.com/tenement-fleet/tenement/api/client"

// syncDirectory does nothing: directories can't be synced here.
func syncDirectory(string) error { return nil }

// isRefused reports whether nobody listens where the client tried to connect.
func isRefused(e *client.UnreachableError) bool { return notThere(e.Err) }
