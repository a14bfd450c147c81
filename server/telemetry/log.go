package telemetry

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"regexp"
	"strings"

	"golang.org/x/term"
)

// Format is how log records are written.
type Format string

// The formats.
const (
	FormatAuto Format = ""     // text on a terminal, JSON otherwise
	FormatText Format = "text" // for people
	FormatJSON Format = "json" // for machines
)

// NewLogger returns a logger to w of records at level and above. What looks like a
// credential is redacted, wherever in a record it stands: the secrets of tokens, and the
// attributes that are named as headers and fields that hold secrets.
func NewLogger(w io.Writer, format Format, level slog.Leveler) (*slog.Logger, error) {
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: redact}
	if format == FormatAuto {
		format = FormatJSON
		if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
			format = FormatText
		}
	}
	switch format {
	case FormatText:
		return slog.New(slog.NewTextHandler(w, options)), nil
	case FormatJSON:
		return slog.New(slog.NewJSONHandler(w, options)), nil
	default:
		return nil, fmt.Errorf("make logger: format: got %q, want %q or %q", format, FormatText, FormatJSON)
	}
}

const redacted = "[redacted]"

// secretText matches a token's secret; its id, which is public, is kept.
var secretText = regexp.MustCompile(`\b(ten_[0-9a-f]{12})_[A-Za-z0-9_-]{43}`)

func redact(_ []string, a slog.Attr) slog.Attr {
	switch strings.ToLower(a.Key) {
	case "authorization", "proxy-authorization", "cookie", "set-cookie", "secret", "password", "env":
		return slog.String(a.Key, redacted)
	}
	switch v := a.Value.Any().(type) {
	case string:
		if clean := redactText(v); clean != v {
			return slog.String(a.Key, clean)
		}
	case http.Header:
		return slog.Any(a.Key, redactHeader(v))
	case error:
		return slog.String(a.Key, redactText(v.Error()))
	case fmt.Stringer:
		if s := v.String(); strings.Contains(s, "ten_") {
			return slog.String(a.Key, redactText(s))
		}
	}
	return a
}

func redactText(s string) string {
	if !strings.Contains(s, "ten_") {
		return s
	}
	return secretText.ReplaceAllString(s, "${1}_"+redacted)
}

func redactHeader(h http.Header) http.Header {
	out := make(http.Header, len(h))
	for name, values := range h {
		if a := redact(nil, slog.String(name, "")); a.Value.String() == redacted {
			out[name] = []string{redacted}
			continue
		}
		for _, v := range values {
			out[name] = append(out[name], redactText(v))
		}
	}
	return out
}
