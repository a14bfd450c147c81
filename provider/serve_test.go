package provider

import "testing"

func TestStarted(t *testing.T) {
	none := func(string) string { return "" }
	byTerraform := func(name string) string {
		if name == cookieName {
			return cookieValue
		}
		return ""
	}
	for _, test := range []struct {
		program string
		getenv  func(string) string
		want    bool
	}{
		{"ten", none, false},
		{"/usr/bin/ten", byTerraform, true},
		{"/x/terraform-provider-ten_v1.2.3", none, true},
		{"/terraform-provider-ten/ten", none, false},
	} {
		if got := Started([]string{test.program}, test.getenv); got != test.want {
			t.Errorf("%s: %v, want %v", test.program, got, test.want)
		}
	}
}

// The framework's steps are logged for who asks for a log, and for nobody else.
func TestQuiet(t *testing.T) {
	for asked, want := range map[string]int{"": 3, "TF_LOG": 0, "TF_LOG_PROVIDER": 0, "TF_LOG_SDK_PROTO": 0} {
		set := 0
		quiet(func(name string) string {
			if name == asked {
				return "debug"
			}
			return ""
		}, func(string, string) error { set++; return nil })
		if set != want {
			t.Errorf("with %q set: %d variables changed, want %d", asked, set, want)
		}
	}
}
