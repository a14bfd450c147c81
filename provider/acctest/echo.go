package acctest

import (
	"net/http"
	"strings"

	"github.com/tenement-fleet/tenement/runtime/driver"
	"github.com/tenement-fleet/tenement/runtime/fake"
)

// Echo returns the programs of a cluster, for its Config, that answer GET /env with their
// environment, a variable a line, and everything else with their name.
func Echo() *fake.Machine {
	return fake.NewMachine(func(s driver.Spec) fake.Behaviour {
		mux := http.NewServeMux()
		answer := func(text string) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(text + "\n")) }
		}
		mux.HandleFunc("/", answer(s.Ref.String()))
		mux.HandleFunc("/env", answer(strings.Join(s.Env, "\n")))
		return fake.Behaviour{Listen: "tcp", Handler: mux}
	})
}
