package transport

import (
	"testing"
)

// BenchmarkDial makes a connection, verified on both sides: two Ed25519 certificates, both
// sides' work.
func BenchmarkDial(b *testing.B) {
	w, s := newWorld(), newSecret(b)
	from := w.start(b, id(0), newKeyring(b, s))
	w.start(b, id(1), newKeyring(b, s))
	for b.Loop() {
		c, err := from.DialHTTP1(b.Context(), id(1))
		if err != nil {
			b.Fatal(err)
		}
		_ = c.Close()
	}
}

// BenchmarkRequest is a small request over a pooled connection.
func BenchmarkRequest(b *testing.B) {
	w, s := newWorld(), newSecret(b)
	from := w.start(b, id(0), newKeyring(b, s))
	w.start(b, id(1), newKeyring(b, s))
	client := from.Client(id(1))
	for b.Loop() {
		if _, _, err := get(b, client); err != nil {
			b.Fatal(err)
		}
	}
}
