//go:build !linux

package agent

func reusePort(uintptr) error { return nil }
