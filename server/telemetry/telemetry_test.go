package telemetry

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

const secret = "ten_0123456789ab_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

func TestRegistry(t *testing.T) {
	reg, err := NewRegistry(Build{Version: "1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"tenement_build_info", "go_goroutines", "go_info"} {
		if n, err := testutil.GatherAndCount(reg, name); err != nil || n != 1 {
			t.Errorf("%s: got %d, %v, want 1", name, n, err)
		}
	}
}

func TestLoggerRedacts(t *testing.T) {
	for _, format := range []Format{FormatText, FormatJSON, FormatAuto} {
		var out bytes.Buffer
		log, err := NewLogger(&out, format, slog.LevelInfo)
		if err != nil {
			t.Fatal(err)
		}
		log.Info("got "+secret, "Authorization", "Bearer "+secret, "url", "/x?token="+secret,
			"error", errors.New("bad "+secret), "env", map[string]string{"KEY": "hunter2"},
			"header", http.Header{"Authorization": {"hunter2"}, "X-Other": {"kept " + secret}},
			slog.Group("request", "cookie", "hunter2", "token", "0123456789ab"))
		log.Debug("never")
		s := out.String()
		if strings.Contains(s, secret[20:]) || strings.Contains(s, "hunter2") || strings.Contains(s, "never") {
			t.Errorf("%q: secrets in %s", format, s)
		}
		if !strings.Contains(s, "ten_0123456789ab_[redacted]") || !strings.Contains(s, "kept") {
			t.Errorf("%q: what is public is gone: %s", format, s)
		}
		if isJSON := json.Valid(out.Bytes()); isJSON == (format == FormatText) {
			t.Errorf("%q: JSON is %v: %s", format, isJSON, s)
		}
	}
	if _, err := NewLogger(&bytes.Buffer{}, "xml", slog.LevelInfo); err == nil {
		t.Error("format xml must be refused")
	}
}
