// Package launch starts a program as a list of system calls that the new process makes
// between its birth and execve: join a process group, mount /proc, enter a directory.
//
// os/exec knows a fixed set of such calls; isolation needs others, in an order of its
// own. The usual way round is to start oneself again as a small init that makes the
// calls and then executes the program, which costs a start of the whole ten binary
// each time. Here the parent prepares every call in memory beforehand, and the child, a
// vfork that shares that memory, only makes them one by one and notes how far it came.
//
// A [Step] is a named piece of that list; a failing one is reported by its name and
// errno. Another measure of isolation is another Step, and nothing else changes.
//
// The package works on Linux, on amd64 and arm64.
package launch
