package secret

import (
	"flag"
	"testing"

	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "write the golden files")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixed returns a secret whose bytes count up from the given one.
func fixed(first byte) Secret {
	var s Secret
	for i := range s.b {
		s.b[i] = first + byte(i)
	}
	return s
}

func fixedTicket() Ticket {
	var t Ticket
	for i := range t.id {
		t.id[i] = 0xa0 + byte(i)
	}
	t.secret = fixed(7).b
	return t
}

func keyring(t testing.TB, secrets ...Secret) *Keyring {
	t.Helper()
	k, err := NewKeyring(secrets...)
	if err != nil {
		t.Fatal(err)
	}
	return k
}
