package state

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"pgregory.net/rapid"
)

// write and parse are both held to encoding/json.
func checkInstanceJSON(t rapid.TB, i *api.Instance, fast bool) {
	want, err := json.Marshal(i)
	if err != nil {
		t.Fatal(err)
	}
	var w jsonWriter
	w.instance(i)
	if w.err != nil || !bytes.Equal(w.b, want) {
		t.Fatalf("wrote %s (%v)\nwant  %s", w.b, w.err, want)
	}
	p := instanceParser{shared: map[string]string{}}
	got, ok := p.parse(want, "", "")
	if fast && !ok {
		t.Fatalf("gave up on %s at %q", want, p.rest)
	}
	back := new(api.Instance)
	if err := json.Unmarshal(want, back); err != nil {
		t.Fatal(err)
	}
	if ok && !reflect.DeepEqual(got, back) {
		t.Fatalf("parsed %s as\n%+v\nwant\n%+v", want, got, back)
	}
}

// Each field alone and all together, those included that do not exist yet.
func TestInstanceJSONHasEveryField(t *testing.T) {
	all, zero := new(api.Instance), new(api.Instance)
	checkInstanceJSON(t, zero, true)
	for _, l := range leaves(reflect.TypeFor[api.Instance](), "", nil) {
		one := new(api.Instance)
		l.fill(reflect.ValueOf(one).Elem())
		checkInstanceJSON(t, one, true)
		l.fill(reflect.ValueOf(all).Elem())
		checkInstanceJSON(t, all, true)
	}
}

func TestInstanceJSONIsThatOfTheLibrary(t *testing.T) {
	text := rapid.OneOf(rapid.String(), rapid.StringMatching(`[a-z<>&"\\ ]*`), rapid.Just("app"))
	when := rapid.Custom(func(t *rapid.T) time.Time {
		zone := time.FixedZone("", 60*rapid.IntRange(-800, 800).Draw(t, "zone"))
		return time.Unix(rapid.Int64Range(-1e10, 1e11).Draw(t, "sec"), rapid.Int64Range(0, 999_999_999).Draw(t, "nsec")).In(zone)
	})
	rapid.Check(t, func(t *rapid.T) {
		i := &api.Instance{
			Service: text.Draw(t, "service"), ID: text.Draw(t, "id"), Weight: rapid.Ptr(rapid.Int(), true).Draw(t, "weight"),
			Pin: text.Draw(t, "pin"), Revision: rapid.Uint64().Draw(t, "revision"), CreatedAt: when.Draw(t, "created"),
			Generation: rapid.Uint64().Draw(t, "generation"),
		}
		if rapid.Bool().Draw(t, "observed") {
			i.Observed = &api.Observed{
				Reason: text.Draw(t, "reason"), PID: rapid.Int().Draw(t, "pid"), Since: when.Draw(t, "since"),
				ExitCode: rapid.Ptr(rapid.Int(), true).Draw(t, "exit"), Healthy: rapid.Bool().Draw(t, "healthy"),
			}
		}
		checkInstanceJSON(t, i, false)
	})
}

func TestInstanceJSONGivesUp(t *testing.T) {
	p := instanceParser{shared: map[string]string{}}
	const good = `{"service":"a","id":"b","desired":"","weight":1,"source":""}`
	if _, ok := p.parse([]byte(good), "", ""); !ok {
		t.Fatal("gave up on what is right")
	}
	for _, bad := range []string{
		good + " ", good[:len(good)-1], strings.Replace(good, "1", "01", 1), strings.Replace(good, "1", "-0", 1),
		strings.Replace(good, "1", "1.5", 1), strings.Replace(good, "1", "12345678901234567890", 1),
		strings.Replace(good, `"b"`, `"\u0062"`, 1), strings.Replace(good, `"b"`, `"ä"`, 1), strings.Replace(good, `,"w`, `, "w`, 1),
		strings.Replace(good, `}`, `,"colour":1}`, 1), `{"id":"b","service":"a","desired":"","weight":1,"source":""}`,
	} {
		if i, ok := p.parse([]byte(bad), "", ""); ok {
			t.Errorf("%s: parsed as %+v", bad, i)
		}
	}
	var w jsonWriter
	if w.instance(&api.Instance{CreatedAt: time.Date(12345, 1, 1, 0, 0, 0, 0, time.UTC)}); w.err == nil {
		t.Error("a time that JSON does not have was written")
	}
}

// FuzzInstanceJSON feeds lines: what is read is what encoding/json reads there.
func FuzzInstanceJSON(f *testing.F) {
	for _, g := range goldens {
		d := drive(f)
		g.script(d)
		for i := range d.View().Instances("") {
			var w jsonWriter
			w.instance(i)
			f.Add(w.b)
		}
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		p := instanceParser{shared: map[string]string{}}
		got, ok := p.parse(line, "", "")
		if !ok {
			return
		}
		dec := json.NewDecoder(bytes.NewReader(line))
		dec.DisallowUnknownFields()
		want := new(api.Instance)
		if err := dec.Decode(want); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%s: parsed as\n%+v\nwant (%v)\n%+v", line, got, err, want)
		}
	})
}
