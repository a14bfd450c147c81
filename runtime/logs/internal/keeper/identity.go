package keeper

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// identity names a keeper for ever: a pid is used again, with another start time.
type identity struct {
	boot  string
	pid   int
	start uint64 // clock ticks since boot
}

const recordPrefix = "keeper"

// String returns the name of the file, which holds nothing, that tells the next ten.
func (id identity) String() string {
	return fmt.Sprintf("%s.%s.%d.%d", recordPrefix, id.boot, id.pid, id.start)
}

func parseIdentity(name string) (identity, bool) {
	part := strings.Split(name, ".")
	if len(part) != 4 || part[0] != recordPrefix {
		return identity{}, false
	}
	pid, err1 := strconv.Atoi(part[2])
	start, err2 := strconv.ParseUint(part[3], 10, 64)
	return identity{boot: part[1], pid: pid, start: start}, err1 == nil && err2 == nil && pid > 0
}

// startTime reads when a process was started: field 22 of its stat, counted from behind
// the program's name, which is in parentheses and may hold anything.
func startTime(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("read process state: %w", err)
	}
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:])) // fields[0] is field 3
	if len(fields) < 20 {
		return 0, errors.New("parse process state: not the format of proc(5)")
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("parse process state: %w", err)
	}
	return start, nil
}

// end kills the keeper, if it is still there, and waits until it is gone. It touches no
// other process: the pidfd is opened first, so what is read afterwards is about it.
func (id identity) end() error {
	fd, err := unix.PidfdOpen(id.pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	if start, err := startTime(id.pid); err != nil || start != id.start {
		return nil // it has ended, and its pid is another's
	}
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", id.pid))
	if err != nil && !errors.Is(err, os.ErrNotExist) { // a zombie has none
		return fmt.Errorf("identify process: %w", err)
	}
	if !strings.HasPrefix(exe, "/memfd:"+memoryName) {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process: %w", err)
	}
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for deadline := time.Now().Add(patience); ; {
		n, err := unix.Poll(fds, int(patience/time.Millisecond))
		if n > 0 {
			break
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for process: %w", err)
		}
		if time.Now().After(deadline) {
			return errLate
		}
	}
	// It may be our own child: when a successor failed and this process takes back.
	_ = unix.Waitid(unix.P_PIDFD, fd, nil, unix.WEXITED, nil)
	return nil
}
