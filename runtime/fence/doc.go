// Package fence ends programs that must not outlive their node's lease, also when ten is
// dead or hangs: such a node's instances are started elsewhere.
//
// The end of the lease is in a small file, by the machine's clock since it was booted,
// which goes on while the machine is suspended. A guard, a process of its own and of the
// same binary, sleeps until then, looks at the file again, and sleeps on if ten has written
// a later end meanwhile. If not, it kills. It costs a look at a file every ten seconds.
//
// The file need not survive a power cut, which ends the programs too.
package fence
