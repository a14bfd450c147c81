package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"testing"

	"github.com/tenement-fleet/tenement/api"
)

// discard is a ResponseWriter that keeps nothing.
type discard struct {
	header http.Header
	bytes  int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(int)             {}
func (d *discard) Write(p []byte) (int, error) { d.bytes += len(p); return len(p), nil }

func BenchmarkList100k(b *testing.B) {
	f := newFixture(b)
	for n := range 100_000 {
		ref := api.Ref{Service: "notes", ID: fmt.Sprintf("i%d", n)}
		f.cluster.view.instances[ref] = &api.Instance{
			Service: ref.Service, ID: ref.ID, Desired: api.DesiredRunning, Source: api.SourceFile, Node: thisNode, Generation: 1,
			Observed: &api.Observed{State: api.StateAsleep, Generation: 1},
		}
	}
	for b.Loop() {
		w := &discard{header: http.Header{}}
		f.ServeHTTP(w, request("admin", "GET", "/api/instances", ""))
		b.ReportMetric(float64(w.bytes)/1e6, "MB")
	}
}

func BenchmarkGetInstance(b *testing.B) {
	f := newFixture(b)
	r := request("admin", "GET", "/api/instances/notes:alice", "")
	b.ReportAllocs()
	for b.Loop() {
		f.ServeHTTP(&discard{header: http.Header{}}, r)
	}
}

func BenchmarkPutInstance(b *testing.B) {
	f := newFixture(b)
	b.ReportAllocs()
	for b.Loop() {
		f.ServeHTTP(&discard{header: http.Header{}}, request("admin", "PUT", "/api/instances/notes:alice", `{"desired":"running","weight":50}`).WithContext(context.Background()))
	}
}
