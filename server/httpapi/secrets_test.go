package httpapi

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/tenement-fleet/tenement/api"
)

// stored is the environment that the programs of a service get.
func (f *fixture) stored(name string) map[string]string {
	s, _ := f.cluster.View().Service(name)
	return s.Env
}

func TestSecretEnv(t *testing.T) {
	f := newFixture(t)
	const path, one, two = "/api/services/web", "squeamish", "ossifrage"
	var shown []string
	put := func(body string, headers ...string) *api.Service {
		t.Helper()
		w := f.do(request("admin", "PUT", path, body, headers...))
		shown = append(shown, w.Body.String())
		var s api.Service
		if err := json.Unmarshal(w.Body.Bytes(), &s); w.Code != 200 || err != nil {
			t.Fatalf("got %d %s, %v", w.Code, w.Body, err)
		}
		return &s
	}
	has := func(what string, want map[string]string) {
		t.Helper()
		if got := f.stored("web"); !maps.Equal(got, want) {
			t.Errorf("%s: the programs get %v, want %v", what, got, want)
		}
	}
	s := put(`{"command":"serve","env":{"A":"1","KEY":"` + one + `","PIN":"` + two + `"},"secret_env":["PIN","KEY","PIN"]}`)
	if !maps.Equal(s.Env, map[string]string{"A": "1"}) || !slices.Equal(s.SecretEnv, []string{"KEY", "PIN"}) {
		t.Errorf("the answer is %+v", s)
	}
	has("created", map[string]string{"A": "1", "KEY": one, "PIN": two})

	var got, listed json.RawMessage
	f.admin(t, 200, "GET", path, "", &got)
	f.admin(t, 200, "GET", "/api/services", "", &listed)
	shown = append(shown, string(got), string(listed))
	if again := put(string(got)); again.Revision != s.Revision {
		t.Errorf("to put what was read changed %d to %d", s.Revision, again.Revision)
	}
	etag := strconv.Quote(uintText(s.Revision))
	put(`{"command":"serve","env":{"B":"2"},"secret_env":["KEY","PIN"]}`, "If-Match", etag)
	has("another variable", map[string]string{"B": "2", "KEY": one, "PIN": two})
	put(`{"command":"serve","env":{"KEY":"new"},"secret_env":["KEY"]}`)
	has("a new value, and one name less", map[string]string{"KEY": "new"})
	put(`{"command":"serve","env":{"KEY":"new"}}`)
	has("secret no more", map[string]string{"KEY": "new"})
	put(`{"command":"serve","env":{},"secret_env":["KEY"]}`)
	has("secret again", map[string]string{"KEY": "new"})
	put(`{"command":"serve"}`)
	has("gone", nil)

	w := f.do(request("admin", "PUT", path, `{"command":"serve","secret_env":["KEY"]}`))
	if want := `secret_env: got \"KEY\", want names that are in env`; w.Code != 400 || !strings.Contains(w.Body.String(), want) {
		t.Errorf("got %d %s, want %s", w.Code, w.Body, want)
	}
	f.admin(t, 412, "PUT", path, `{"command":"serve","secret_env":[]}`, nil, "If-Match", etag)
	f.admin(t, 409, "PUT", "/api/services/filed", `{"command":"serve","secret_env":["PASSWORD"]}`, nil)
	if text := strings.Join(shown, "") + f.audit.String(); strings.Contains(text, one) || strings.Contains(text, two) {
		t.Errorf("the value of a secret variable is told: %s", text)
	}
}

// rotating is a cluster in which somebody else writes a new secret first, a few times.
type rotating struct {
	*fakeCluster
	times, done int
}

func (r *rotating) PutService(ctx context.Context, s *api.Service, ifMatch *uint64) (*api.Service, error) {
	if r.times > 0 {
		r.times--
		r.done++
		cur, _ := r.View().Service(s.Name)
		other := cur.Clone()
		other.Env["PASSWORD"] = "rotated " + strconv.Itoa(r.done)
		if _, err := r.fakeCluster.PutService(ctx, other, nil); err != nil {
			return nil, err
		}
	}
	return r.fakeCluster.PutService(ctx, s, ifMatch)
}

// A secret that is kept is the newest: who puts back what was read before a rotation does
// not undo it.
func TestSecretKeptIsTheNewest(t *testing.T) {
	race := &rotating{}
	f := newFixture(t, func(c *Config) {
		race.fakeCluster = c.Cluster.(*fakeCluster)
		c.Cluster = race
	})
	const keeps = `{"command":"other","secret_env":["PASSWORD"]}`
	race.times = 3
	f.admin(t, 200, "PUT", "/api/services/notes", keeps, nil)
	if got := f.stored("notes")["PASSWORD"]; got != "rotated 3" {
		t.Errorf("the programs get %q", got)
	}
	race.times = 1
	cur, _ := f.cluster.View().Service("notes")
	f.admin(t, 412, "PUT", "/api/services/notes", keeps, nil, "If-Match", strconv.Quote(uintText(cur.Revision)))
	race.times = 100
	f.admin(t, 412, "PUT", "/api/services/notes", keeps, nil)
	race.times = 1
	f.admin(t, 200, "PUT", "/api/services/notes", `{"command":"third","env":{"PASSWORD":"mine"},"secret_env":["PASSWORD"]}`, nil)
	if got := f.stored("notes")["PASSWORD"]; got != "mine" {
		t.Errorf("the programs get %q", got)
	}
}

// lagging is a node that knows an old state.
type lagging struct {
	*fakeCluster
	old View // nil: the newest
}

func (l *lagging) View() View {
	if l.old != nil {
		return l.old
	}
	return l.fakeCluster.View()
}

// A node that is behind asks for the newest, where it could not know the value.
func TestSecretKeptByANodeBehind(t *testing.T) {
	behind := &lagging{}
	f := newFixture(t, func(c *Config) {
		behind.fakeCluster = c.Cluster.(*fakeCluster)
		c.Cluster = behind
		c.Consistent = func(context.Context) (View, error) { return behind.fakeCluster.View(), nil }
	})
	old := *f.cluster.view
	old.services = nil
	behind.old = &old
	f.admin(t, 404, "GET", "/api/services/notes", "", nil)
	f.admin(t, 200, "PUT", "/api/services/notes", `{"command":"other","secret_env":["PASSWORD"]}`, nil)
	if got := f.stored("notes")["PASSWORD"]; got != sesame {
		t.Errorf("the programs get %q", got)
	}
}

// Events say that a service has changed, not to what secret.
func TestSecretEnvEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t)
		ctx, cancel := context.WithCancel(t.Context())
		w, ended := f.open(request("admin", "GET", "/api/events?index=1", "").WithContext(ctx))
		f.admin(t, 200, "PUT", "/api/services/notes", `{"command":"other","env":{"PASSWORD":"squeamish"},"secret_env":["PASSWORD"]}`, nil)
		synctest.Wait()
		text, _ := w.take()
		cancel()
		<-ended
		if !strings.Contains(text, `"secret_env":["PASSWORD"]`) || strings.Contains(text, sesame) || strings.Contains(text, "squeamish") {
			t.Errorf("the events are %s", text)
		}
	})
}

// A dry run of a service as it was read has the environment that it would have.
func TestPlanKeepsSecrets(t *testing.T) {
	f := newFixture(t)
	f.admin(t, 200, "POST", "/api/plan", `{"service":{"name":"notes","command":"other","secret_env":["PASSWORD"]}}`, nil)
	if got := f.members.planned[0].Service.Env["PASSWORD"]; got != sesame {
		t.Errorf("planned with %q", got)
	}
}
