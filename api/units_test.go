package api_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tenement-fleet/tenement/api"
)

func TestDurationText(t *testing.T) {
	for in, want := range map[string]string{
		"0": "0s", "300": "5m", "0.5": "500ms", "1e3": "16m40s", "-2": "-2s",
		"90s": "1m30s", "5m": "5m", "1h30m": "1h30m", "1h0m30s": "1h30s", "1h0m0s": "1h", "10h": "10h",
		"1h0.5s": "1h0.5s", "20m": "20m", "100h10m": "100h10m", "250ms": "250ms", "1us": "1µs", "-1h0m1s": "-1h1s",
	} {
		d, err := api.ParseDuration(in)
		if err != nil || d.String() != want {
			t.Errorf("%q reads as %v, %v, want %s", in, d, err, want)
		}
	}
	for _, in := range []string{"", " ", "5 m", "five", "1y", "NaN", "inf", "-inf", "1e300", "9300000000000", "5m "} {
		if d, err := api.ParseDuration(in); api.CodeOf(err) != api.CodeInvalid {
			t.Errorf("%q reads as %v, %v", in, d, err)
		}
	}
}

func TestSizeText(t *testing.T) {
	for in, want := range map[string]string{
		"0": "0B", "1": "1B", "1024": "1KiB", "1536": "1536B", "512MiB": "512MiB", "512 mib": "512MiB", "2GB": "2GiB",
		"1024g": "1TiB", "1025KiB": "1025KiB", "9223372036854775807": "9223372036854775807B", "8191PiB": "",
		"8388607TiB": "8388607TiB", "8388608TiB": "", "9223372036854775808": "", "": "", "MiB": "", "-1": "", "1.5GiB": "", "1 2": "",
	} {
		n, err := api.ParseSize(in)
		if want == "" && api.CodeOf(err) != api.CodeInvalid || want != "" && (err != nil || n.String() != want) {
			t.Errorf("%q reads as %v, %v, want %q", in, n, err, want)
		}
	}
}

// The text of every value reads back as that value, and is the shortest of its kind.
func TestUnitsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		unit := rapid.SampledFrom([]time.Duration{1, time.Microsecond, time.Millisecond, time.Second, time.Minute, time.Hour}).Draw(t, "unit")
		d := api.Duration(time.Duration(rapid.Int64Range(math.MinInt64/int64(unit), math.MaxInt64/int64(unit)).Draw(t, "n")) * unit)
		back, err := api.ParseDuration(d.String())
		if err != nil || back != d {
			t.Fatalf("%d reads back as %v, %v", d, back, err)
		}
		if s := d.String(); s != "0s" && (strings.HasPrefix(s, "0") && !strings.HasPrefix(s, "0.") || strings.Contains(s, "h0m") || strings.Contains(s, "m0s")) {
			t.Fatalf("%q has zero parts", s)
		}
		size := api.Size(rapid.Int64Range(0, math.MaxInt64).Draw(t, "size")) >> rapid.IntRange(0, 62).Draw(t, "shift")
		size <<= rapid.SampledFrom([]int{0, 0, 10}).Draw(t, "scale")
		if size < 0 {
			size = 0
		}
		if back, err := api.ParseSize(size.String()); err != nil || back != size {
			t.Fatalf("%d reads back as %v, %v", size, back, err)
		}
		in := units{d, size}
		b, err := json.Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		var out units
		if err := json.Unmarshal(b, &out); err != nil || out != in {
			t.Fatalf("%s reads back as %+v, %v", b, out, err)
		}
	})
}

type units struct {
	D api.Duration
	S api.Size
}

func TestUnitsJSON(t *testing.T) {
	for text, want := range map[string]units{
		`{"D": "5m", "S": "1KiB"}`: {api.Seconds(300), api.KiB},
		`{"D": 0.25, "S": 2048}`:   {api.Duration(250 * time.Millisecond), 2 * api.KiB},
		`{"D": null, "S": null}`:   {api.Seconds(7), 7},
		`{}`:                       {api.Seconds(7), 7},
	} {
		got := units{api.Seconds(7), 7}
		if err := json.Unmarshal([]byte(text), &got); err != nil || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{`{"D": true}`, `{"D": []}`, `{"D": "x"}`, `{"S": {}}`, `{"S": 1.5}`, `{"S": -1}`, `{"S": "x"}`} {
		if err := json.Unmarshal([]byte(text), new(units)); api.CodeOf(err) != api.CodeInvalid {
			t.Errorf("%s: got %v", text, err)
		}
	}
}

func FuzzParseDuration(f *testing.F) {
	for _, s := range []string{"5m", "1h0m30s", "300", "0.1", "1e9", "-1ns", "µs"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := api.ParseDuration(s)
		if err != nil {
			return
		}
		if back, err := api.ParseDuration(d.String()); err != nil || back != d {
			t.Errorf("%q is %v, which reads back as %v, %v", s, d, back, err)
		}
	})
}

func FuzzParseSize(f *testing.F) {
	for _, s := range []string{"512MiB", "0", "1 k", "9223372036854775807B", "8388608TiB"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := api.ParseSize(s)
		if err != nil {
			return
		}
		if back, err := api.ParseSize(n.String()); n < 0 || err != nil || back != n {
			t.Errorf("%q is %v, which reads back as %v, %v", s, n, back, err)
		}
	})
}
