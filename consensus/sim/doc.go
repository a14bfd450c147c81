// Package sim simulates whole clusters: real nodes with real Raft, the real leader's work
// and planner, on machines, disks, a network and clocks that fail on purpose, in the false
// time of testing/synctest. An hour passes in seconds. All of it is tests; `make sim` runs
// them for long.
//
// What is simulated: machines that lose power or stop for a while, processes that are
// killed, links that are cut in both directions or one, that lose, delay and reorder,
// disks that are slow, full, or fail, and that lose at a power cut what was not synced,
// clocks that jump by a day. The agents that run instances are a model of runtime/agent:
// they run what they are assigned, keep leases, and report.
//
// What is checked, all the time: one leader a term; equal states at equal indexes; nothing
// acknowledged is lost; reads and writes are linearizable (by Porcupine); an instance has
// one node a generation; a single-writer never runs twice; nothing is replaced that was
// reachable, or whose service forbids it; and after every round of faults everything is
// placed and runs again, in time.
//
// A seed makes the same faults again, at the same times; not the same run: Go schedules
// goroutines as it likes, and Raft draws its time-outs from a source of its own.
package sim
