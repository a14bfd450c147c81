// Package logs captures what instances print, keeps it, and finds it again.
//
// A running instance writes to two named pipes. They outlive ten, so a program neither
// dies nor loses a line while ten is being replaced. The bytes go pipe → spool file →
// SQLite partition; how far the spool has been read is stored together with the entries,
// so that killing ten at any moment loses and repeats nothing. DESIGN.md beside this
// file tells why it is built this way, and what the limits are.
package logs
