package spool

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/runtime/logs/internal/source"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

var src = source.Source{Ref: api.Ref{Service: "web", ID: "a"}, Level: api.Stdout}

func pipe(t interface {
	Cleanup(func())
	Fatal(...any)
},
) (r, w int) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fds[0]); _ = unix.Close(fds[1]) })
	return fds[0], fds[1]
}

func open(t interface{ Fatal(...any) }, path string, offset int64) *Stream {
	d, err := OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	files, err := d.List()
	if err != nil {
		t.Fatal(err)
	}
	s, err := d.Open(src, files[src], offset)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Bytes come out as they went in, whatever the order of fills, reads, consumes and
// reopenings, and what has been consumed takes no space.
func TestStream(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			rt.Fatal(err)
		}
		r, w := pipe(rt)
		s := open(rt, dir, 0)
		var in, out []byte
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			switch rapid.SampledFrom([]string{"fill", "fill", "fill", "read", "reopen", "end"}).Draw(rt, "step") {
			case "fill":
				b := bytes.Repeat([]byte{byte(len(in)), '\n', 'x'}, rapid.IntRange(1, 20000).Draw(rt, "len"))
				n, err := unix.Write(w, b)
				if err != nil {
					rt.Fatal(err)
				}
				in = append(in, b[:n]...)
				for left := n; left > 0; {
					m, err := s.Fill(r, left)
					if err != nil || m == 0 {
						rt.Fatalf("Fill = %d, %v", m, err)
					}
					left -= m
				}
			case "read":
				buf := make([]byte, rapid.IntRange(1, 3<<20).Draw(rt, "buf"))
				n, err := s.Read(buf)
				if err != nil || n != min(len(buf), len(in)-len(out)) {
					rt.Fatalf("Read = %d, %v; pending %d", n, err, len(in)-len(out))
				}
				n = rapid.IntRange(0, n).Draw(rt, "consume")
				out = append(out, buf[:n]...)
				s.Consume(s.Offset() + int64(n))
			case "reopen":
				offset := s.Offset()
				if err := s.Close(); err != nil {
					rt.Fatal(err)
				}
				s = open(rt, dir, offset)
			case "end":
				if len(in) > len(out) && in[len(in)-1] != '\n' {
					in = append(in, '\n')
				}
				if _, err := s.EndLine(); err != nil {
					rt.Fatal(err)
				}
			}
			if got := s.Pending(); got != int64(len(in)-len(out)) {
				rt.Fatalf("Pending = %d, want %d", got, len(in)-len(out))
			}
		}
		rest := make([]byte, s.Pending())
		if n, err := s.Read(rest); err != nil || n != len(rest) {
			rt.Fatalf("Read = %d, %v", n, err)
		}
		if out = append(out, rest...); !bytes.Equal(in, out) {
			rt.Fatalf("%d bytes in, %d out, or different ones", len(in), len(out))
		}
		s.Consume(s.Offset() + int64(len(rest)))
		if size := dirSize(rt, dir); size >= keepSize {
			rt.Fatalf("%d bytes left on disk", size)
		}
		if err := s.Remove(); err != nil {
			rt.Fatal(err)
		}
		if files, err := s.dir.List(); len(files) > 0 || dirSize(rt, dir) > 0 || err != nil {
			rt.Fatalf("Remove left %v, %v", files, err)
		}
	})
}

func dirSize(t interface{ Fatal(...any) }, dir string) (n int64) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		fi, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		n += fi.Size()
	}
	return n
}

func TestFillEmptyPipe(t *testing.T) {
	r, _ := pipe(t)
	s := open(t, t.TempDir(), 0)
	defer s.Close() //nolint:errcheck // a test
	if n, err := s.Fill(r, 100); n != 0 || err != nil {
		t.Errorf("Fill = %d, %v; want 0, nil", n, err)
	}
}

func TestCopyOver(t *testing.T) {
	r, w := pipe(t)
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // a test
	if _, err := unix.Write(w, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{5, 0} {
		if n, err := copyOver(r, int(f.Fd()), 3, 100); n != want || err != nil {
			t.Errorf("copyOver = %d, %v; want %d", n, err, want)
		}
	}
	if b, _ := os.ReadFile(f.Name()); string(b) != "\x00\x00\x00hello" {
		t.Errorf("file holds %q", b)
	}
}

// What a power failure can leave behind does not stop the stream.
func TestOpenAfterPowerFailure(t *testing.T) {
	name := func(base string) string { return src.String() + "." + base }
	tests := []struct {
		name   string
		files  map[string]string
		offset int64
		want   string
		end    int64
	}{
		{"hole", map[string]string{name("0000000000000000"): "abc", name("0000000000000010"): "def"}, 0, "def", 19},
		{"file shorter than the offset", map[string]string{name("0000000000000000"): "abc"}, 10, "", 10},
		{"offset taken back", map[string]string{name("0000000000000010"): "def"}, 2, "def", 19},
		{"foreign files", map[string]string{"x": "y", "web:a.stdout": "y", "web:a.stdout.12": "y"}, 7, "", 7},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			for n, content := range tt.files {
				if err := os.WriteFile(filepath.Join(dir, n), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			s := open(t, dir, tt.offset)
			defer s.Close() //nolint:errcheck // a test
			buf := make([]byte, 100)
			n, err := s.Read(buf)
			if err != nil || string(buf[:n]) != tt.want {
				t.Errorf("Read = %q, %v; want %q", buf[:n], err, tt.want)
			}
			r, w := pipe(t)
			if _, err := unix.Write(w, []byte("new")); err != nil {
				t.Fatal(err)
			}
			if n, err := s.Fill(r, 3); n != 3 || err != nil {
				t.Fatalf("Fill = %d, %v", n, err)
			}
			if got := s.Offset() + s.Pending(); got != tt.end+3 {
				t.Errorf("end = %d, want %d", got, tt.end+3)
			}
			n, err = s.Read(buf)
			if err != nil || !slices.Equal(buf[:n], []byte(tt.want+"new")) {
				t.Errorf("Read = %q, %v; want %q", buf[:n], err, tt.want+"new")
			}
		})
	}
}
