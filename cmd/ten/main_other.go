//go:build !linux

package main

// platformHooks is empty: the server needs Linux.
func platformHooks() hooks { return hooks{} }
