package health

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// The kernel's sock_diag protocol: linux/sock_diag.h, inet_diag.h, unix_diag.h.
const (
	stateListen   = 10
	tcpDiag       = 18 // TCPDIAG_GETSOCK, the older message for TCP
	inetReqLen    = 56 // struct inet_diag_req_v2
	inetOldReqLen = 60 // struct inet_diag_req
	inetMsgLen    = 72 // struct inet_diag_msg
	unixReqLen    = 24 // struct unix_diag_req
	unixMsgLen    = 16 // struct unix_diag_msg
	unixShowVFS   = 2  // UDIAG_SHOW_VFS
	attrV6Only    = 11 // INET_DIAG_SKV6ONLY
	attrVFS       = 1  // UNIX_DIAG_VFS
	diagTimeout   = time.Second
	diagBatch     = 64 // lookups per send: their answers must fit the receive buffer
	receiveBuffer = 1 << 20
)

// diag asks the kernel which sockets listen, over one sock_diag netlink socket. It is
// for one goroutine.
type diag struct {
	fd   int
	seq  uint32
	out  []byte
	in   []byte
	want [65536 / 64]uint64 // scratch of dump: the set of ports asked for
}

// openDiag opens the socket and makes sure, with a listener of its own, that this
// kernel answers: a missing module looks like "nobody listens" otherwise.
func openDiag() (*diag, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, fmt.Errorf("open sock_diag: %w", err)
	}
	d := &diag{fd: fd, in: make([]byte, 64<<10)}
	if err := d.init(); err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

func (d *diag) init() error {
	// An answer that never comes must not hang the watcher.
	tv := unix.NsecToTimeval(int64(diagTimeout))
	if err := unix.SetsockoptTimeval(d.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		return fmt.Errorf("open sock_diag: set timeout: %w", err)
	}
	if err := unix.SetsockoptInt(d.fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer); err != nil {
		return fmt.Errorf("open sock_diag: set buffer: %w", err)
	}
	l, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return fmt.Errorf("test sock_diag: %w", err)
	}
	defer func() { _ = l.Close() }()
	ports := []int{l.Addr().(*net.TCPAddr).Port}
	for _, find := range []func([]int, func(int, listener)) error{d.lookup, d.dump} {
		seen := false
		if err := find(ports, func(int, listener) { seen = true }); err != nil {
			return fmt.Errorf("test sock_diag: %w", err)
		}
		if !seen {
			return errors.New("test sock_diag: the kernel does not show a socket that listens")
		}
	}
	return nil
}

func (d *diag) close() error { return unix.Close(d.fd) }

// lookup calls hit for each of the ports that somebody listens on at a loopback or
// wildcard address. It costs two hash lookups a port.
func (d *diag) lookup(ports []int, hit func(int, listener)) error {
	for batch := range slices.Chunk(ports, diagBatch) {
		d.out = d.out[:0]
		first := d.seq + 1
		for _, port := range batch {
			d.request(unix.SOCK_DIAG_BY_FAMILY, unix.NLM_F_REQUEST, inetRequest(unix.AF_INET, port))
			d.request(unix.SOCK_DIAG_BY_FAMILY, unix.NLM_F_REQUEST, inetRequest(unix.AF_INET6, port))
		}
		if err := d.send(); err != nil {
			return err
		}
		// One answer a request: the socket, or an error, ENOENT as a rule.
		for pending := 2 * len(batch); pending > 0; {
			err := d.receive(first, func(kind uint16, body []byte) {
				pending--
				if kind >= unix.NLMSG_MIN_TYPE {
					lookedUp(body, hit)
				}
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// lookedUp reports the answer to an exact lookup: a socket that takes connections to
// the family's loopback address.
func lookedUp(body []byte, hit func(int, listener)) {
	if len(body) < inetMsgLen || body[1] != stateListen {
		return
	}
	port := int(binary.BigEndian.Uint16(body[4:]))
	if body[0] == unix.AF_INET6 && inetAddr(body).Unmap().Is6() && v6only(body) {
		hit(port, listener{loopback6, inetInode(body)})
		return
	}
	hit(port, listener{dialable(inetAddr(body), false), inetInode(body)})
}

// dump reads all listeners and calls hit for those on one of the ports.
func (d *diag) dump(ports []int, hit func(int, listener)) error {
	for _, p := range ports {
		d.want[p/64] |= 1 << (p % 64)
	}
	defer func() {
		for _, p := range ports {
			d.want[p/64] = 0
		}
	}()
	return d.listInet(0, func(port int, l func() listener) {
		if d.want[port/64]&(1<<(port%64)) != 0 {
			hit(port, l())
		}
	})
}

// listeners calls each for every socket that listens on the port.
func (d *diag) listeners(port int, each func(listener)) error {
	return d.listInet(port, func(p int, l func() listener) {
		if p == port { // kernels need not filter
			each(l())
		}
	})
}

// listInet reads all listeners, or those on the port alone.
func (d *diag) listInet(port int, each func(port int, l func() listener)) error {
	// The older message shows both families in one pass over the kernel's table.
	req := make([]byte, inetOldReqLen)
	req[0] = unix.AF_INET
	binary.BigEndian.PutUint16(req[4:], uint16(port)) //nolint:gosec // checked by Wait
	binary.NativeEndian.PutUint32(req[52:], 1<<stateListen)
	return d.list(tcpDiag, req, func(body []byte) {
		if len(body) >= inetMsgLen {
			each(int(binary.BigEndian.Uint16(body[4:])), func() listener {
				return listener{dialable(inetAddr(body), v6only(body)), inetInode(body)}
			})
		}
	})
}

// vfsID identifies a file as unix_diag does: the device, and the inode's low half.
type vfsID struct{ dev, ino uint32 }

// unixListeners calls hit for the file of every listening unix socket.
func (d *diag) unixListeners(hit func(vfsID)) error {
	req := make([]byte, unixReqLen)
	req[0] = unix.AF_UNIX
	binary.NativeEndian.PutUint32(req[4:], 1<<stateListen)
	binary.NativeEndian.PutUint32(req[12:], unixShowVFS)
	return d.list(unix.SOCK_DIAG_BY_FAMILY, req, func(body []byte) {
		if len(body) < unixMsgLen {
			return
		}
		if v := attribute(body[unixMsgLen:], attrVFS); len(v) >= 8 {
			hit(vfsID{ino: binary.NativeEndian.Uint32(v), dev: binary.NativeEndian.Uint32(v[4:])})
		}
	})
}

// list sends one dump request and calls each for every object of the answer.
func (d *diag) list(kind uint16, req []byte, each func(body []byte)) error {
	d.out = d.out[:0]
	d.request(kind, unix.NLM_F_REQUEST|unix.NLM_F_DUMP, req)
	if err := d.send(); err != nil {
		return err
	}
	var (
		done   bool
		failed error
	)
	for !done {
		err := d.receive(d.seq, func(kind uint16, body []byte) {
			switch {
			case kind >= unix.NLMSG_MIN_TYPE:
				each(body)
			case kind == unix.NLMSG_DONE || kind == unix.NLMSG_ERROR:
				done = true
				failed = netlinkError(body)
			}
		})
		if err != nil {
			return err
		}
	}
	return failed
}

func netlinkError(body []byte) error {
	if len(body) < 4 {
		return nil // no reason given
	}
	code := int32(binary.NativeEndian.Uint32(body)) //nolint:gosec // a negative errno by contract
	if code == 0 {
		return nil
	}
	return fmt.Errorf("dump sock_diag: %w", unix.Errno(-code)) //nolint:gosec // a negative errno by contract
}

// request appends one message to what send will send.
func (d *diag) request(kind, flags uint16, body []byte) {
	d.seq++
	size := uint32(unix.SizeofNlMsghdr + len(body)) //nolint:gosec // constants below 100
	d.out = binary.NativeEndian.AppendUint32(d.out, size)
	d.out = binary.NativeEndian.AppendUint16(d.out, kind)
	d.out = binary.NativeEndian.AppendUint16(d.out, flags)
	d.out = binary.NativeEndian.AppendUint32(d.out, d.seq)
	d.out = binary.NativeEndian.AppendUint32(d.out, 0)
	d.out = append(d.out, body...)
}

func (d *diag) send() error {
	if err := unix.Sendto(d.fd, d.out, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("send sock_diag request: %w", err)
	}
	return nil
}

// receive reads one datagram and calls each for its messages. Messages that answer a
// request before the one numbered since are leftovers of one given up, and skipped.
func (d *diag) receive(since uint32, each func(kind uint16, body []byte)) error {
	n, err := unix.Read(d.fd, d.in)
	if errors.Is(err, unix.EINTR) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read sock_diag answer: %w", err)
	}
	for b := d.in[:n]; len(b) >= unix.SizeofNlMsghdr; {
		size := int(binary.NativeEndian.Uint32(b))
		if size < unix.SizeofNlMsghdr || size > len(b) {
			return errors.New("read sock_diag answer: bad message length")
		}
		if seq := binary.NativeEndian.Uint32(b[8:]); seq-since < 1<<31 {
			each(binary.NativeEndian.Uint16(b[4:]), b[unix.SizeofNlMsghdr:size])
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return nil
}

// inetRequest asks for the listener that takes connections to the port at the family's
// loopback address.
func inetRequest(family byte, port int) []byte {
	req := make([]byte, inetReqLen)
	req[0], req[1] = family, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(req[4:], 1<<stateListen)
	binary.BigEndian.PutUint16(req[8:], uint16(port)) //nolint:gosec // checked by Wait
	if family == unix.AF_INET {
		copy(req[12:], loopback4.AsSlice())
	} else {
		copy(req[12:], loopback6.AsSlice())
	}
	for i := 48; i < inetReqLen; i++ {
		req[i] = 0xff // INET_DIAG_NOCOOKIE
	}
	return req
}

// inetAddr returns the local address of an inet_diag_msg.
func inetAddr(body []byte) netip.Addr {
	if body[0] == unix.AF_INET {
		return netip.AddrFrom4([4]byte(body[8:]))
	}
	return netip.AddrFrom16([16]byte(body[8:]))
}

func inetInode(body []byte) uint64 { return uint64(binary.NativeEndian.Uint32(body[68:])) }

func v6only(body []byte) bool {
	v := attribute(body[inetMsgLen:], attrV6Only)
	return len(v) > 0 && v[0] != 0
}

// attribute returns the value of the first netlink attribute of that kind; nil when
// there is none.
func attribute(b []byte, kind uint16) []byte {
	for len(b) >= unix.SizeofRtAttr {
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofRtAttr || size > len(b) {
			return nil
		}
		if binary.NativeEndian.Uint16(b[2:]) == kind {
			return b[unix.SizeofRtAttr:size]
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return nil
}
