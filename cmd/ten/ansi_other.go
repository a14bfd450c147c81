//go:build !windows

package main

import "os"

// understandsANSI reports whether a terminal interprets escape sequences: they all do.
func understandsANSI(*os.File) bool { return true }
