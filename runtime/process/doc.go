// Package process is the driver for the isolation level "process": a bare process with a
// process group of its own. It keeps nothing from the program that its user may do or
// see, so it is for trusted code; a program that leaves its group (setsid) also leaves
// what the driver can end.
package process
