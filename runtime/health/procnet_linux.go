package health

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"strconv"
)

// readProcNet calls hit for every TCP listener that /proc shows. It reads through every
// connection of the machine, so it is only for where sock_diag does not work.
func readProcNet(hit func(int, listener)) error {
	for _, name := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) && name == "/proc/net/tcp6" {
			continue // a kernel without IPv6
		}
		if err != nil {
			return fmt.Errorf("read listeners: %w", err)
		}
		err = parseProcNet(f, hit)
		_ = f.Close() // only read
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
	}
	return nil
}

// parseProcNet reads the format of /proc/net/tcp: a header, then lines of
// "sl local_address rem_address st …", the local address as hex in the machine's byte
// order by 32-bit words, a colon, and the port in hex; the tenth is the inode. Lines that
// differ are skipped.
func parseProcNet(r io.Reader, hit func(int, listener)) error {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		fields := bytes.Fields(lines.Bytes())
		if len(fields) < 4 || string(fields[3]) != "0A" { // TCP_LISTEN
			continue
		}
		host, service, ok := bytes.Cut(fields[1], []byte(":"))
		if !ok {
			continue
		}
		port, err := strconv.ParseUint(string(service), 16, 16)
		addr, ok := procAddr(host)
		if err != nil || !ok {
			continue
		}
		var inode uint64 // 0: unknown
		if len(fields) > 9 {
			inode, _ = strconv.ParseUint(string(fields[9]), 10, 64)
		}
		// It does not tell whether a [::] listener is IPv6 only: [::1] reaches both kinds.
		hit(int(port), listener{dialable(addr, true), inode})
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("parse listeners: %w", err)
	}
	return nil
}

func procAddr(text []byte) (netip.Addr, bool) {
	raw, err := hex.AppendDecode(nil, text)
	if err != nil || len(raw)%4 != 0 {
		return netip.Addr{}, false
	}
	for i := 0; i < len(raw); i += 4 {
		binary.BigEndian.PutUint32(raw[i:], binary.NativeEndian.Uint32(raw[i:]))
	}
	return netip.AddrFromSlice(raw)
}
