package main

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestKernel(t *testing.T) {
	for release, ok := range map[string]bool{
		"6.1.0-18-amd64": true, "5.4.0": true, "5.10+": true, "5.3.18": false, "4.19.0": false, "strange": true,
	} {
		if c := kernelOf(release); c.OK != ok || !c.Required || c.Detail != release {
			t.Errorf("%s: %+v", release, c)
		}
	}
}

func TestCgroups(t *testing.T) {
	root := t.TempDir()
	if c := checkCgroups(root); c.OK || !strings.Contains(c.Detail, "not mounted") {
		t.Errorf("nothing there: %+v", c)
	}
	if err := os.Mkdir(filepath.Join(root, "memory"), 0o700); err != nil {
		t.Fatal(err)
	}
	if c := checkCgroups(root); c.OK || !strings.Contains(c.Detail, "version 1") {
		t.Errorf("version 1: %+v", c)
	}
	write := func(text string) {
		if err := os.WriteFile(filepath.Join(root, "cgroup.controllers"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("cpuset cpu io\n")
	if c := checkCgroups(root); c.OK || !strings.Contains(c.Detail, "memory, pids") {
		t.Errorf("two missing: %+v", c)
	}
	write("cpuset cpu io memory pids\n")
	if c := checkCgroups(root); !c.OK {
		t.Errorf("all there: %+v", c)
	}
}

func TestInstancePorts(t *testing.T) {
	head := "  sl  local_address rem_address   st tx_queue\n"
	file := filepath.Join(t.TempDir(), "tcp")
	// 30000 listens, 30001 is connected, 22 listens.
	rows := "   0: 0100007F:7530 00000000:0000 0A x\n   1: 0100007F:7531 0100007F:0016 01 x\n   2: 00000000:0016 00000000:0000 0A x\n broken\n"
	if err := os.WriteFile(file, []byte(head+rows), 0o600); err != nil {
		t.Fatal(err)
	}
	c := checkInstancePorts(file, filepath.Join(t.TempDir(), "no-ipv6"))
	if !c.OK || c.Detail != "10000 of 10001 free" {
		t.Errorf("%+v", c)
	}
	var many strings.Builder
	for p := range 9500 {
		many.WriteString("   0: 0100007F:" + strconv.FormatInt(int64(30000+p), 16) + " 00000000:0000 0A x\n")
	}
	if err := os.WriteFile(file, []byte(head+many.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if c := checkInstancePorts(file); c.OK || !c.Required {
		t.Errorf("%+v", c)
	}
}

func TestHTTPPort(t *testing.T) {
	ln, err := net.Listen("tcp", "[::]:0")
	if err != nil {
		if ln, err = net.Listen("tcp", "0.0.0.0:0"); err != nil {
			t.Fatal(err)
		}
	}
	defer func() { _ = ln.Close() }()
	port := ln.Addr().(*net.TCPAddr).Port
	w := newWorld(t).local()
	if c := w.app(nil, nil).checkPort(t.Context(), port); c.OK || !c.Required || !strings.Contains(c.Detail, "another program") {
		t.Errorf("in use: %+v", c)
	}
	var saw []string
	w.listen(t, trusting(w.server, &saw))
	if c := w.app(nil, nil).checkPort(t.Context(), port); !c.OK || !strings.Contains(c.Detail, "a ten runs") {
		t.Errorf("in use by ten: %+v", c)
	}
	if c := w.app(nil, nil).checkPort(t.Context(), 0); !c.OK {
		t.Errorf("free: %+v", c)
	}
}

func TestDataDir(t *testing.T) {
	dir := t.TempDir()
	if c := checkDataDir(dir); !c.OK || !strings.Contains(c.Detail, "writable") {
		t.Errorf("%+v", c)
	}
	if c := checkDataDir(filepath.Join(dir, "a", "b")); !c.OK || !strings.Contains(c.Detail, "makes") {
		t.Errorf("%+v", c)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if c := checkDataDir(file); c.OK || !c.Required {
		t.Errorf("a file: %+v", c)
	}
}
