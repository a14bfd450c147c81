package route

import (
	"errors"
	"strings"
	"testing"
)

func TestParseHost(t *testing.T) {
	long := strings.Repeat("a", 63)
	for _, tc := range []struct {
		in   string
		want string // "" means refused
		ip   bool
	}{
		{in: "example.com", want: "example.com"},
		{in: "Example.COM:8080", want: "example.com"},
		{in: "example.com.", want: "example.com"},
		{in: "example.com.:80", want: "example.com"},
		{in: "example.com:", want: "example.com"},
		{in: "a-b.c_d.example.com", want: "a-b.c_d.example.com"},
		{in: "localhost", want: "localhost"},
		{in: "1.notes.example.com", want: "1.notes.example.com"},
		{in: "127.0.0.1:8080", want: "127.0.0.1", ip: true},
		{in: "[::1]:8080", want: "::1", ip: true},
		{in: "[FE80::1]", want: "fe80::1", ip: true},
		{in: "[::ffff:1.2.3.4]", want: "::ffff:1.2.3.4", ip: true},
		{in: long + ".com", want: long + ".com"},
		{in: ""},
		{in: "."},
		{in: ":80"},
		{in: "a..b"},
		{in: ".a"},
		{in: "a.."},
		{in: "a b"},
		{in: "a/b"},
		{in: "a@b"},
		{in: "a%2e"},
		{in: "a\x00b"},
		{in: "ä.example.com"},
		{in: "a:b"},
		{in: "a:1:2"},
		{in: "a:65536"},
		{in: "a:123456"},
		{in: "a:-1"},
		{in: "::1"},
		{in: "[::1"},
		{in: "[::1]x"},
		{in: "[::1]:x"},
		{in: "[fe80::1%eth0]"},
		{in: "[1.2.3.4]"},
		{in: "[example.com]"},
		{in: "1.2.3"},
		{in: "1.2.3.256"},
		{in: "1.2.3.04"},
		{in: "0x7f000001"},
		{in: "2130706433"},
		{in: "a.0x1"},
		{in: "a" + long + ".com"},
		{in: strings.Repeat(long+".", 4) + "com"},
	} {
		got, err := ParseHost(tc.in)
		if tc.want == "" {
			if !errors.Is(err, ErrHost) {
				t.Errorf("ParseHost(%q) = %v, %v; want ErrHost", tc.in, got, err)
			}
			continue
		}
		if err != nil || got != (Host{Name: tc.want, IP: tc.ip}) {
			t.Errorf("ParseHost(%q) = %+v, %v; want %q ip=%v", tc.in, got, err, tc.want, tc.ip)
		}
	}
}

func FuzzParseHost(f *testing.F) {
	for _, s := range []string{"a.b.localhost:80", "[::1]:1", "1.2.3.4", "A_-.", "0x1", ":", "[", "x:00000"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		h, err := ParseHost(s)
		if err != nil {
			if h != (Host{}) {
				t.Fatalf("refused %q with %+v", s, h)
			}
			return
		}
		if h.Name == "" || len(h.Name) > maxHostLen || h.Name != strings.ToLower(h.Name) || strings.HasSuffix(h.Name, ".") {
			t.Fatalf("ParseHost(%q) = %+v", s, h)
		}
		canonical := h.Name
		if strings.Contains(canonical, ":") {
			canonical = "[" + canonical + "]"
		}
		if again, err := ParseHost(canonical); err != nil || again != h {
			t.Fatalf("ParseHost(%q) = %+v, but ParseHost(%q) = %+v, %v", s, h, canonical, again, err)
		}
	})
}
