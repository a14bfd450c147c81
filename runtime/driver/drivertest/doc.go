// Package drivertest is the conformance suite that every driver passes.
//
// A driver's test package calls [Main] from its TestMain and [Run] from a test. The
// programs that the suite starts are the test binary itself, which Main turns into one
// of them when its environment asks for that.
package drivertest
