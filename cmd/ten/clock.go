//go:build !chaosclock

package main

import "time"

// clock returns the server's clock; nil is the machine's.
func clock() func() time.Time { return nil }
