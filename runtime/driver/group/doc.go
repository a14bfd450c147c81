// Package group runs programs that are real processes, each the leader of a process
// group of its own: it starts them through package launch, watches them, signals and
// ends whole groups, and finds them again after ten itself was restarted.
//
// It is what the drivers process and namespace have in common. A process is known by a
// pidfd, and across restarts of ten by boot id, pid and start time; a bare pid, which
// may have been given to another process since, is never signalled.
package group
