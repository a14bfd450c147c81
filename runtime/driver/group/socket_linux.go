//go:build amd64 || arm64

package group

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"strconv"

	"github.com/tenement-fleet/tenement/runtime/driver"
)

var _ driver.SocketOwner = (*process)(nil)

// OwnsSocket implements driver.SocketOwner: it looks for the socket in the process and
// its descendants, and then, because some may have lost their parents, in whoever else is
// in the group or carries the start in his environment.
func (p *process) OwnsSocket(inode uint64) (owned bool, holder int) {
	s := search{link: "socket:[" + strconv.FormatUint(inode, 10) + "]", seen: make(map[int]bool)}
	if s.tree(p.handle.PID) {
		return true, 0
	}
	for pid := range processes() {
		if s.seen[pid] {
			continue
		}
		held, hidden := s.heldBy(pid)
		switch {
		case !held && !hidden:
		case p.belongs(pid):
			if held {
				return true, 0
			}
			s.hidden = true
		case held:
			holder = pid
		}
	}
	// One that hides what it has, if only because it is about to end, is given the benefit of
	// the doubt only where nobody else is seen to have the socket.
	return s.hidden && holder == 0, holder
}

// belongs reports whether a process that descends from nobody here is one of ours.
func (p *process) belongs(pid int) bool {
	st, err := readStat(pid)
	return err == nil && st.group == p.handle.PID || hasStart(pid, p.handle.Start)
}

// search looks for one socket among processes.
type search struct {
	link   string // what a descriptor of it reads as
	seen   map[int]bool
	hidden bool // one of ours does not show its descriptors
}

// tree looks at a process and all of its descendants.
func (s *search) tree(root int) (found bool) {
	for queue := []int{root}; len(queue) > 0; {
		pid := queue[0]
		queue = queue[1:]
		if s.seen[pid] {
			continue
		}
		s.seen[pid] = true
		held, hidden := s.heldBy(pid)
		if held {
			return true
		}
		s.hidden = s.hidden || hidden
		queue = append(queue, children(pid)...)
	}
	return false
}

// heldBy reports whether a process has the socket open; hidden that it may, but does not
// show. One that has ended has nothing, which is not for everybody to see either.
func (s *search) heldBy(pid int) (held, hidden bool) {
	dir := "/proc/" + strconv.Itoa(pid) + "/fd"
	f, err := os.Open(dir)
	if err != nil {
		st, gone := readStat(pid)
		return false, errors.Is(err, fs.ErrPermission) && gone == nil && !st.ended()
	}
	defer f.Close() //nolint:errcheck // only read from
	for {
		names, err := f.Readdirnames(512)
		for _, name := range names {
			switch link, err := os.Readlink(dir + "/" + name); {
			case link == s.link:
				return true, false
			case errors.Is(err, fs.ErrPermission):
				hidden = true
			}
		}
		if err != nil {
			return false, hidden || errors.Is(err, fs.ErrPermission)
		}
	}
}

// children returns the processes that the threads of a process have started; none on a
// kernel that does not tell.
func children(pid int) []int {
	tasks := "/proc/" + strconv.Itoa(pid) + "/task"
	threads, err := os.ReadDir(tasks)
	if err != nil {
		return nil
	}
	var all []int
	for _, thread := range threads {
		b, err := os.ReadFile(tasks + "/" + thread.Name() + "/children")
		if err != nil {
			continue
		}
		for _, field := range bytes.Fields(b) {
			if pid, err := strconv.Atoi(string(field)); err == nil {
				all = append(all, pid)
			}
		}
	}
	return all
}
