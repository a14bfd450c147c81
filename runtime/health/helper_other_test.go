//go:build !linux

package health

func helperListen(string, string, int) { panic("only on Linux") }
