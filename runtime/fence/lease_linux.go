package fence

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Lease is what is on file.
type Lease struct {
	// BootID names the boot of the machine that End is counted from.
	BootID string `json:"boot_id"`
	// End is when the programs must have ended, as [Now] tells.
	End time.Duration `json:"end"`
	// Guard names the guard that ten relies on. Any other has been replaced.
	Guard string `json:"guard,omitempty"`
}

// expired reports whether the lease has ended, or never was in this boot.
func (l Lease) expired(bootID string, now time.Duration) bool {
	return l.BootID != bootID || now >= l.End
}

// Now is the time since the machine was booted, that in which it was suspended included.
func Now() time.Duration {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		panic(fmt.Errorf("read CLOCK_BOOTTIME: %w", err)) // every Linux since 2.6.39 has it
	}
	return time.Duration(now.Nano())
}

// sleepUntil returns at that time.
func sleepUntil(end time.Duration) {
	at := unix.NsecToTimespec(int64(end))
	for errors.Is(unix.ClockNanosleep(unix.CLOCK_BOOTTIME, unix.TIMER_ABSTIME, &at, nil), unix.EINTR) {
	}
}

// width is the size of the file: it is always written whole, in its place, which needs no
// space on a full disk and waits for no sync.
const width = 256

var errTorn = errors.New("wrong checksum")

func (l Lease) write(f *os.File) error {
	b, err := json.Marshal(l)
	if err != nil {
		return fmt.Errorf("encode lease: %w", err)
	}
	line := fmt.Appendf(nil, "%08x %s", crc32.ChecksumIEEE(b), b)
	if len(line) >= width {
		return fmt.Errorf("write lease: it has %d bytes, less than %d fit", len(line), width)
	}
	line = append(line, bytes.Repeat([]byte{' '}, width-1-len(line))...)
	if _, err := f.WriteAt(append(line, '\n'), 0); err != nil {
		return fmt.Errorf("write lease: %w", err)
	}
	return nil
}

// readLease returns the zero lease from an empty file.
func readLease(f *os.File) (l Lease, err error) {
	for range 100 { // it may be just being written
		if l, err = readOnce(f); !errors.Is(err, errTorn) {
			return l, err
		}
		time.Sleep(time.Millisecond)
	}
	return l, err
}

func readOnce(f *os.File) (l Lease, err error) {
	b := make([]byte, width)
	n, err := f.ReadAt(b, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return l, fmt.Errorf("read lease: %w", err)
	}
	if n == 0 {
		return l, nil
	}
	sum, text, _ := bytes.Cut(bytes.TrimRight(b[:n], " \n"), []byte{' '})
	if fmt.Sprintf("%08x", crc32.ChecksumIEEE(text)) != string(sum) {
		return l, fmt.Errorf("read lease: %w", errTorn)
	}
	if err := json.Unmarshal(text, &l); err != nil {
		return l, fmt.Errorf("decode lease: %w", err)
	}
	return l, nil
}

// deleted reports whether the file is in no directory any more.
func deleted(f *os.File) bool {
	var st unix.Stat_t
	return unix.Fstat(int(f.Fd()), &st) == nil && st.Nlink == 0
}
