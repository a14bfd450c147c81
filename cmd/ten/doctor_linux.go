package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/api/client"
)

const (
	firstInstancePort = 30000
	lastInstancePort  = 40000
	fewPorts          = 1000
	leastFiles        = 65536
	leastDisk         = api.Size(256) * api.MiB // the 64 MiB reserve, a snapshot and some logs
)

// examineMachine finds out what the kernel, the file system and the network offer.
func (a *app) examineMachine(ctx context.Context, port int) []api.Capability {
	list := []api.Capability{checkKernel(), checkCgroups("/sys/fs/cgroup"), a.checkPort(ctx, port), checkInstancePorts("/proc/net/tcp", "/proc/net/tcp6")}
	dir, err := a.dataDirectory()
	if err != nil {
		list = append(list, needed(lacking("data directory", "name one with --data-dir", "%v", err)))
	} else {
		list = append(list, checkDataDir(dir), checkDisk(dir))
	}
	return append(list, checkFiles())
}

// checkKernel wants pidfds that can be waited for, by which instances are found again.
func checkKernel() api.Capability {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return needed(lacking("kernel", "", "%v", err))
	}
	return kernelOf(unix.ByteSliceToString(u.Release[:]))
}

func kernelOf(release string) api.Capability {
	major, rest, _ := strings.Cut(release, ".")
	minor := rest
	if i := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' }); i >= 0 {
		minor = rest[:i]
	}
	m, err1 := strconv.Atoi(major)
	n, err2 := strconv.Atoi(minor)
	if err := errors.Join(err1, err2); err != nil {
		return needed(found("kernel", "%s", release)) // a name like no other; it may well do
	}
	if m < 5 || m == 5 && n < 4 {
		return needed(lacking("kernel", "upgrade to Linux 5.4 or later", "%s", release))
	}
	return needed(found("kernel", "%s", release))
}

// checkCgroups looks for version 2, which later versions need for memory and CPU limits.
func checkCgroups(root string) api.Capability {
	const name = "cgroups v2"
	b, err := os.ReadFile(filepath.Join(root, "cgroup.controllers"))
	if err != nil {
		fix := "boot with systemd.unified_cgroup_hierarchy=1, or mount -t cgroup2 none " + root
		if _, err := os.Stat(filepath.Join(root, "memory")); err == nil {
			return lacking(name, fix, "only version 1, but not needed yet: this version enforces no limits")
		}
		return lacking(name, fix, "not mounted, but not needed yet: this version enforces no limits")
	}
	have := strings.Fields(string(b))
	var missing []string
	for _, want := range []string{"cpu", "memory", "pids"} {
		if !slices.Contains(have, want) {
			missing = append(missing, want)
		}
	}
	if len(missing) > 0 {
		return lacking(name, "enable them in "+filepath.Join(root, "cgroup.subtree_control"), "no controllers for %s", strings.Join(missing, ", "))
	}
	if unix.Access(root, unix.W_OK) != nil {
		return lacking(name, "serve as root, or let systemd delegate a cgroup (Delegate=yes)", "this user may not make any")
	}
	return found(name, "controllers cpu, memory, pids; not used yet: this version enforces no limits")
}

// checkPort wants the HTTP port, unless it is this machine's ten that has it.
func (a *app) checkPort(ctx context.Context, port int) api.Capability {
	name := "port " + strconv.Itoa(port)
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", ":"+strconv.Itoa(port))
	if err == nil {
		if err = ln.Close(); err == nil {
			return needed(found(name, "free"))
		}
	}
	serving := false
	if path, ok := a.socket(); ok && errors.Is(err, unix.EADDRINUSE) {
		c, clientErr := a.clientOf([]string{socketURL(path)}, "")
		if clientErr == nil {
			defer c.Close()
			ctx, cancel := context.WithTimeout(ctx, completionTime)
			defer cancel()
			_, healthErr := c.ServerHealth(ctx)
			_, away := errors.AsType[*client.UnreachableError](healthErr)
			serving = !away
		}
	}
	switch {
	case serving:
		return needed(found(name, "in use; a ten runs on this machine already"))
	case errors.Is(err, unix.EADDRINUSE):
		return needed(lacking(name, "stop the program that listens there (ss -ltnp), or serve on another with --port", "in use by another program"))
	case errors.Is(err, fs.ErrPermission):
		return needed(lacking(name, "serve as root, give the binary CAP_NET_BIND_SERVICE, or use a port from 1024 up", "this user may not listen there"))
	default:
		return needed(lacking(name, "serve on another with --port", "%v", err))
	}
}

// checkInstancePorts counts who listens among the ports that instances get.
func checkInstancePorts(tables ...string) api.Capability {
	const total = lastInstancePort - firstInstancePort + 1
	name := fmt.Sprintf("ports %d-%d", firstInstancePort, lastInstancePort)
	taken := map[int]bool{}
	for _, path := range tables {
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // no IPv6
		}
		if err != nil {
			return lacking(name, "", "%v", err)
		}
		for p := range listening(f) {
			if firstInstancePort <= p && p <= lastInstancePort {
				taken[p] = true
			}
		}
		_ = f.Close() // only read
	}
	if free := total - len(taken); free < fewPorts {
		return needed(lacking(name, "end programs that listen on these ports", "only %d of %d free", free, total))
	}
	return needed(found(name, "%d of %d free", total-len(taken), total))
}

// listening yields the local ports of the sockets that listen in a table as /proc/net/tcp.
func listening(r io.Reader) map[int]bool {
	const listenState = "0A"
	ports := map[int]bool{}
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		fields := bytes.Fields(sc.Bytes())
		if len(fields) < 4 || string(fields[3]) != listenState {
			continue
		}
		at := bytes.LastIndexByte(fields[1], ':')
		if p, err := strconv.ParseUint(string(fields[1][at+1:]), 16, 16); err == nil {
			ports[int(p)] = true
		}
	}
	return ports
}

// checkDataDir wants a directory that this user can write, or can make.
func checkDataDir(dir string) api.Capability {
	const name = "data directory"
	at := existing(dir)
	f, err := os.CreateTemp(at, ".ten-doctor-*")
	if err == nil {
		err = errors.Join(f.Close(), os.Remove(f.Name()))
	}
	switch {
	case err != nil && at == dir:
		return needed(lacking(name, "make it writable for the user that serves, or name another with --data-dir", "%s: %v", dir, plain(err)))
	case err != nil:
		return needed(lacking(name, "make it for the user that serves, or name another with --data-dir", "%s can't be made: %v", dir, plain(err)))
	case at != dir:
		return needed(found(name, "%s, which 'ten serve' makes", dir))
	default:
		return needed(found(name, "%s, writable", dir))
	}
}

func checkDisk(dir string) api.Capability {
	const name = "disk space"
	var st unix.Statfs_t
	if err := unix.Statfs(existing(dir), &st); err != nil {
		return needed(lacking(name, "", "%v", err))
	}
	free := api.Size(st.Bavail) * api.Size(st.Bsize)
	if free < leastDisk {
		return needed(lacking(name, "free some: below its low-water mark the server refuses writes", "%s free, %s wanted", rough(free), leastDisk))
	}
	return needed(found(name, "%s free", rough(free)))
}

// checkFiles looks at the hard limit, to which Go raises the soft one by itself.
func checkFiles() api.Capability {
	const name = "open files"
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return lacking(name, "", "%v", err)
	}
	if l.Max < leastFiles {
		return lacking(name, "raise the limit: LimitNOFILE=1048576 in the systemd unit, or ulimit -Hn", "at most %d: few connections at a time", l.Max)
	}
	return found(name, "at most %d", l.Max)
}

// existing returns dir or its nearest parent that exists.
func existing(dir string) string {
	for {
		if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

// plain is an error's cause without the name of a temporary file.
func plain(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}

// rough tells a size in the unit that people would.
func rough(n api.Size) string {
	for _, u := range []struct {
		name string
		size api.Size
	}{{"TiB", api.TiB}, {"GiB", api.GiB}, {"MiB", api.MiB}} {
		if n >= u.size {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(u.size), u.name)
		}
	}
	return n.String()
}
