//go:build !linux

package health

func helperListen(string, string, int) int { panic("only on Linux") }
