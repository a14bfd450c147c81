//go:build amd64 || arm64

package group

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/tenement-fleet/tenement/runtime/driver"
)

// stat is what /proc/PID/stat tells of a process that matters here.
type stat struct {
	state   byte // 'Z' and 'X': ended
	group   int
	session int
	start   uint64 // clock ticks since boot
	exit    int    // the wait status of a process that has ended; 0 also if we may not know
}

func (s stat) ended() bool { return s.state == 'Z' || s.state == 'X' }

func readStat(pid int) (stat, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return stat{}, fmt.Errorf("read process state: %w", err)
	}
	return parseStat(b)
}

var errStat = errors.New("parse process state: not the format of proc(5)")

// parseStat reads the fields after the program's name, which is in parentheses and may
// itself hold spaces and parentheses.
func parseStat(b []byte) (stat, error) {
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return stat{}, errStat
	}
	fields := strings.Fields(string(b[i+1:])) // fields[0] is field 3
	if len(fields) < 20 {
		return stat{}, errStat
	}
	group, err1 := strconv.Atoi(fields[2])
	session, err2 := strconv.Atoi(fields[3])
	start, err3 := strconv.ParseUint(fields[19], 10, 64)
	if err := errors.Join(err1, err2, err3); err != nil || len(fields[0]) != 1 {
		return stat{}, errStat
	}
	exit := 0
	if len(fields) >= 50 {
		exit, _ = strconv.Atoi(fields[49])
	}
	return stat{state: fields[0][0], group: group, session: session, start: start, exit: exit}, nil
}

// zombieExit returns the wait status of a process that has ended and is not reaped yet.
func zombieExit(h driver.Handle) (ws syscall.WaitStatus, ok bool) {
	s, err := readStat(h.PID)
	if err != nil || s.start != h.StartTime || !s.ended() {
		return 0, false
	}
	// The kernel shows 0 to those who may not know. They may not read this link either,
	// which for everybody else dangles, since a zombie has no program.
	if _, err := os.Readlink("/proc/" + strconv.Itoa(h.PID) + "/exe"); s.exit == 0 && !errors.Is(err, os.ErrNotExist) {
		return 0, false
	}
	return syscall.WaitStatus(s.exit), true //nolint:gosec // the bits of a wait status
}

// hasStart reports whether a process was given this driver.EnvStart. A process whose
// environment may not be read is none of ours.
func hasStart(pid int, start string) bool {
	f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return false
	}
	defer f.Close() //nolint:errcheck // only read from
	const limit = 8 << 20
	b, err := io.ReadAll(io.LimitReader(f, limit))
	return err == nil && findStart(b, start)
}

func findStart(environ []byte, start string) bool {
	entry := []byte(driver.EnvStart + "=" + start)
	for len(environ) > 0 {
		var e []byte
		e, environ, _ = bytes.Cut(environ, []byte{0})
		if bytes.Equal(e, entry) {
			return true
		}
	}
	return false
}

// processes yields the pid of every process there is.
func processes() iter.Seq[int] {
	return func(yield func(int) bool) {
		dir, err := os.Open("/proc")
		if err != nil {
			return
		}
		defer dir.Close() //nolint:errcheck // only read from
		for {
			names, err := dir.Readdirnames(512)
			for _, name := range names {
				if pid, err := strconv.Atoi(name); err == nil && !yield(pid) {
					return
				}
			}
			if err != nil {
				return
			}
		}
	}
}

// members yields the processes of a group that have not ended.
func members(group int) iter.Seq[int] {
	return func(yield func(int) bool) {
		for pid := range processes() {
			if s, err := readStat(pid); err == nil && s.group == group && !s.ended() && !yield(pid) {
				return
			}
		}
	}
}

// readBootID names this boot of the machine, so that pids of an earlier one mean nothing.
func readBootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}
