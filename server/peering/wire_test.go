package peering

import (
	"errors"
	"io"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus"
)

// TestErrorsTravel: an error is the same one at the node that asked.
func TestErrorsTravel(t *testing.T) {
	f := &fake{}
	c := pair(t, f.config())
	fields := api.FieldErrors{{Field: "id", Got: "x", Want: "y"}}
	for name, tt := range map[string]struct {
		err   error
		code  api.Code
		again bool // nothing was done: it is for the leader
	}{
		"coded":      {&api.Error{Code: api.CodeUnavailable, Message: "m", RetryAfter: api.Seconds(3)}, api.CodeUnavailable, false},
		"wrapped":    {errors.Join(errors.New("while"), &api.Error{Code: api.CodeConflict, Message: "m"}), api.CodeConflict, false},
		"fields":     {fields, api.CodeInvalid, false},
		"plain":      {errors.New("a disk broke"), api.CodeInternal, false},
		"not leader": {errors.Join(consensus.ErrNotLeader, &api.Error{Code: api.CodeUnavailable, Message: "m"}), api.CodeUnavailable, true},
	} {
		f.err = tt.err
		err := c.Wake(t.Context(), answerer, ref)
		if api.CodeOf(err) != tt.code || err.Error() != tt.err.Error() || errors.Is(err, consensus.ErrNotLeader) != tt.again {
			t.Errorf("%s: %v, code %s", name, err, api.CodeOf(err))
		}
		e, ok := errors.AsType[*api.Error](err)
		if !ok || name == "coded" && e.RetryAfter != api.Seconds(3) || name == "fields" && !reflect.DeepEqual(e.Fields, []api.FieldError(fields)) {
			t.Errorf("%s: %+v", name, e)
		}
	}
}

// TestTooLarge: no node has another one read without end; a snapshot may be of any size.
func TestTooLarge(t *testing.T) {
	f := &fake{}
	c := pair(t, f.config())
	large := func() io.Reader { return io.MultiReader(strings.NewReader(`{"x":"`), io.LimitReader(zeros{}, maxBody)) }
	for _, path := range []string{"/join", "/promise", "/commands", "/logs", "/logs/stream"} {
		if res, body := do(t, c.To(answerer), http.MethodPost, prefix+path, "", large()); res.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("%s: %d %s", path, res.StatusCode, body)
		}
	}
	if err := c.RestoreSnapshot(t.Context(), answerer, large(), false); err != nil {
		t.Errorf("snapshot: %v", err)
	}
	if _, err := c.Forward(t.Context(), answerer, make([]consensus.Forwarded, consensus.MaxForwarded+1)); api.CodeOf(err) != api.CodeTooLarge {
		t.Errorf("too many commands: %v", err)
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = '0'
	}
	return len(b), nil
}

// TestFollowBreaksOff: a stream that ends is not taken for the end of the log.
func TestFollowBreaksOff(t *testing.T) {
	for _, end := range []error{nil, errors.New("a disk broke")} {
		f := &fake{log: []api.LogEntry{{Message: "a"}, {Message: "b"}}, err: end}
		c := pair(t, f.config())
		var got []string
		var last error
		for e, err := range c.Follow(t.Context(), answerer, api.LogQuery{}) {
			if last = err; err == nil {
				got = append(got, e.Message)
			}
		}
		if len(got) != 2 || !errors.Is(last, io.ErrUnexpectedEOF) || api.CodeOf(last) != api.CodeUnavailable {
			t.Errorf("got %q, then %v", got, last)
		}
	}
}

// TestDataIsWhole: an archive that broke off, or of which nobody says that it is all, is
// an error.
func TestDataIsWhole(t *testing.T) {
	f := &fake{}
	c := pair(t, f.config())
	fetch := func(c *Client) (string, error) {
		var b strings.Builder
		err := c.FetchData(t.Context(), answerer, ref, &b)
		return b.String(), err
	}
	if got, err := fetch(c); got != asker || err != nil {
		t.Errorf("whole: %q, %v", got, err)
	}
	f.data = func(io.Writer) error { return api.Errorf(api.CodeNotFound, "there is none") }
	if _, err := fetch(c); api.CodeOf(err) != api.CodeNotFound {
		t.Errorf("none: %v", err)
	}
	f.data = func(w io.Writer) error {
		_, _ = io.WriteString(w, "half")
		return errors.New("a disk broke")
	}
	if _, err := fetch(c); err == nil {
		t.Error("half of it was taken for all")
	}
	for name, says := range map[string]string{"nothing": "", "less": "1", "more": "9", "nonsense": "yes"} {
		k := newKeyring(t)
		port := open(t, answerer, k, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Trailer", trailerOK)
			_, _ = io.WriteString(w, "four")
			if says != "" {
				w.Header().Set(trailerOK, says)
			}
		}), "")
		if got, err := fetch(ask(t, asker, k, port)); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("the node says %s: %q, %v", name, got, err)
		}
	}
}

// FuzzBodies: whatever a node sends, the other one answers it.
func FuzzBodies(f *testing.F) {
	for i, e := range endpoints {
		f.Add(uint8(i), []byte(e.body), "")                   //nolint:gosec // there are few
		f.Add(uint8(i), []byte(`[{"command":null}]`), "{}")   //nolint:gosec // there are few
		f.Add(uint8(i), []byte(`{"node":{"id":1}}`), `{"x"}`) //nolint:gosec // there are few
	}
	h := Handler((&fake{known: func(string) bool { return true }}).config())
	f.Fuzz(func(t *testing.T, which uint8, body []byte, actor string) {
		method, path, _ := strings.Cut(endpoints[int(which)%len(endpoints)].route, " ")
		r, err := http.NewRequestWithContext(t.Context(), method, "https://peer"+prefix+path, strings.NewReader(string(body)))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set(headerActor, actor)
		if res := recorded(h, r); res.StatusCode != http.StatusOK && res.StatusCode != http.StatusBadRequest && res.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("%s %s: %s", method, path, strconv.Itoa(res.StatusCode))
		}
	})
}
