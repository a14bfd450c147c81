package peering

import (
	"encoding/json"
	"net/http"
)

// Founder answers servers that look for a cluster.
type Founder interface {
	Status() Status
	Promise(PromiseRequest) (Status, error)
}

// FoundingHandler answers what is asked of servers that may be of no cluster yet; all
// else is next's.
func FoundingHandler(f Founder, next http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", next)
	reply := func(w http.ResponseWriter, s Status, err error) {
		if err != nil {
			WriteError(w, err)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(s) // the peer may have gone
	}
	mux.HandleFunc("GET "+prefix+"/status", func(w http.ResponseWriter, _ *http.Request) { reply(w, f.Status(), nil) })
	mux.HandleFunc("POST "+prefix+"/promise", func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		req, err := decode[PromiseRequest](r)
		if err != nil {
			WriteError(w, err)
			return
		}
		s, err := f.Promise(req)
		reply(w, s, err)
	})
	return mux
}
