package gossip

import (
	"strings"
	"testing"

	"github.com/hashicorp/memberlist"
)

func TestMetaFits(t *testing.T) {
	// The longest that a node's settings allow, if its addresses are its gossip address.
	host := "2001:db8:1111:2222:3333:4444:5555:6666"
	m := Meta{
		Name: strings.Repeat("n", 63), Zone: strings.Repeat("z", 63), Version: strings.Repeat("v", 40),
		PeerAddr: "[" + host + "]:65535", HTTPAddr: "[" + host + "]:65535",
	}
	b, err := m.encode(host)
	if err != nil {
		t.Fatal(err)
	}
	if MetaMax > memberlist.MetaMaxSize || len(b) > MetaMax {
		t.Errorf("%d bytes", len(b))
	}
	if got, err := decodeMeta(b, host); err != nil || got != m {
		t.Errorf("decoded %+v, %v", got, err)
	}
	if got, err := decodeMeta(append(b, "\x03new field"...), host); err != nil || got != m {
		t.Errorf("with a field of a newer version: %+v, %v", got, err)
	}
	m.HTTPAddr = "a-rather-long-name.example.com:443"
	if _, err := m.encode(host); err == nil {
		t.Error("more than fits was encoded")
	}
}

func FuzzMeta(f *testing.F) {
	for _, m := range []Meta{{}, {Name: "a", PeerAddr: "10.0.0.1:7947", HTTPAddr: "example.com:80", Version: "1.2.3", Zone: "z"}} {
		b, err := m.encode("10.0.0.1")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte("\x01\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decodeMeta(b, "10.0.0.1")
		if err != nil {
			if m != (Meta{}) {
				t.Fatalf("half decoded: %+v", m)
			}
			return
		}
		if err := m.check(); err != nil {
			t.Fatal(err)
		}
		again, err := m.encode("10.0.0.1")
		if err != nil {
			return // longer than this version writes
		}
		if got, err := decodeMeta(again, "10.0.0.1"); err != nil || got != m {
			t.Fatalf("%+v became %+v, %v", m, got, err)
		}
	})
}
