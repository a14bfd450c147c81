package config

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSample(t *testing.T) {
	golden := filepath.Join("testdata", "sample.toml")
	got := Sample("hello", "app --port {port}")
	if *update {
		if err := os.WriteFile(golden, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the sample differs from %s; run with -update and look at the difference", golden)
	}
	c, _ := load(t, string(got))
	if len(c.Services) != 1 || c.Services[0].Name != "hello" || c.Services[0].Command != "app" || len(c.Instances) != 1 {
		t.Errorf("got %+v", c)
	}
	// Every comment that shows a key shows it as it may be written.
	uncommented := strings.ReplaceAll(string(got), "\n# ", "\n")
	uncommented = strings.NewReplacer(
		"tenement.toml: what", "# ", "ten config shows", "# ", "A service is", "# ", "that does not exist", "# ",
		"asleep after", "# ", "Instances that", "# ", "The root domain,", "# ",
	).Replace(uncommented)
	c, _ = load(t, strings.Replace(uncommented, "/var/lib/tenement", "x", 1))
	if c.Routing.Default != "hello" || c.Services[0].Env["DATABASE"] == "" {
		t.Errorf("got %+v", c)
	}
	if c, _ = load(t, string(Sample("", ""))); len(c.Services) != 0 {
		t.Errorf("a sample without a command declares %+v", c.Services[0])
	}
}
