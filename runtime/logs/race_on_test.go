//go:build race

package logs

// raceEnabled makes tests smaller: the race detector slows SQLite down tenfold.
const raceEnabled = true
