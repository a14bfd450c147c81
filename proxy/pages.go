package proxy

import (
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tenement-fleet/tenement/api"
)

// failure is a request that ends with a page of ours instead of a program's answer.
type failure struct {
	status int
	// text is what the client reads: what the status means here, and nothing of the inside.
	text       string
	retryAfter time.Duration
	cause      error // for the log
}

// Error implements error.
func (f *failure) Error() string {
	if f.cause != nil {
		return f.cause.Error()
	}
	return f.text
}

// Unwrap returns the cause.
func (f *failure) Unwrap() error { return f.cause }

// errClientGone ends a request whose client does not wait for the answer any more.
var errClientGone = errors.New("client went away")

// The statuses that no response has; they stand for what happened instead, in metrics.
const statusClientGone = 499

const (
	textUnknownHost = "There is no service at this address."
	textNoInstance  = "The service exists, but has no instance of this name."
	textBadRequest  = "The request could not be understood."
	textMethod      = "This method or protocol is not available here."
	textSlowClient  = "The request did not arrive in time."
	textBadGateway  = "The program at this address did not give a valid answer."
	textNotStarted  = "The program at this address could not be started."
	textHeld        = "This instance is stopped."
	textNoBackend   = "No instance of this service takes requests at the moment."
	textNoRoute     = "Nothing behind this address takes requests at the moment."
	textNoWeight    = "All backends of this address have the weight 0, so that none takes requests."
	textMaintenance = "This address is under maintenance. Please try again later."
	textPaused      = "This address is paused. Please try again in a moment."
	textBusy        = "Too many requests are waiting already. Please try again in a moment."
	textUnavailable = "The program at this address is not available at the moment."
	textTimeout     = "The program at this address did not answer in time."
)

// writePage answers with an error page: a small HTML page for a browser, a gRPC status
// for a gRPC client, a problem document for who wants JSON, plain text for everybody else.
func writePage(w http.ResponseWriter, r *http.Request, f *failure, id string) {
	h := w.Header()
	h.Set("X-Request-Id", id)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if f.retryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int((f.retryAfter+time.Second-1)/time.Second)))
	}
	if f.status == http.StatusMethodNotAllowed {
		h.Set("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
	}
	switch {
	case isGRPC(r.Header):
		h.Set("Content-Type", "application/grpc")
		h.Set("Grpc-Status", strconv.Itoa(grpcStatus(f.status)))
		h.Set("Grpc-Message", percentEncoded(f.text))
		w.WriteHeader(http.StatusOK)
	case accepts(r.Header, "text/html"):
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
		w.WriteHeader(f.status)
		_, _ = fmt.Fprintf(w, pageHTML, f.status, http.StatusText(f.status), html.EscapeString(f.text), html.EscapeString(id)) //nolint:gosec // escaped; the client may be gone
	case accepts(r.Header, "application/json"), accepts(r.Header, api.ProblemType):
		h.Set("Content-Type", api.ProblemType)
		w.WriteHeader(f.status)
		_, _ = w.Write(f.problem()) //nolint:gosec // JSON, never sniffed; the client may be gone
	default:
		h.Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(f.status)
		_, _ = fmt.Fprintf(w, "%d %s\n%s\nRequest: %s\n", f.status, http.StatusText(f.status), f.text, id) //nolint:gosec // plain text, never sniffed; likewise
	}
}

const pageHTML = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="robots" content="noindex">
<title>%[1]d %[2]s</title>
<style>
:root { color-scheme: light dark }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 34rem; margin: 18vh auto 0; padding: 0 1.5rem }
h1 { font-size: 1.4rem }
p { white-space: pre-line }
small { opacity: .6 }
</style>
<h1>%[1]d %[2]s</h1>
<p>%[3]s
<p><small>Request %[4]s</small>
</html>
`

func accepts(h http.Header, media string) bool {
	for _, v := range h["Accept"] {
		if strings.Contains(v, media) {
			return true
		}
	}
	return false
}

// problem returns the failure as the API would tell it.
func (f *failure) problem() []byte {
	p := api.Problem{
		Type: "about:blank", Title: http.StatusText(f.status), Status: f.status,
		Code: codeByStatus[f.status], Detail: f.text, RetryAfter: api.Duration(f.retryAfter),
	}
	b, _ := json.Marshal(p) // it has text and numbers only
	return append(b, '\n')
}

var codeByStatus = map[int]api.Code{
	http.StatusBadRequest:         api.CodeInvalid,
	http.StatusNotFound:           api.CodeNotFound,
	http.StatusMethodNotAllowed:   api.CodeNotAllowed,
	http.StatusRequestTimeout:     api.CodeTimeout,
	http.StatusMisdirectedRequest: api.CodeMisdirected,
	http.StatusBadGateway:         api.CodeFailed,
	http.StatusServiceUnavailable: api.CodeUnavailable,
	http.StatusGatewayTimeout:     api.CodeTimeout,
}

// percentEncoded writes text as gRPC wants it in a field.
func percentEncoded(s string) string {
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// isGRPC reports whether a request is a gRPC call; gRPC-Web is not, it is HTTP/1.1.
func isGRPC(h http.Header) bool {
	v := h["Content-Type"]
	if len(v) == 0 {
		return false
	}
	rest, ok := strings.CutPrefix(v[0], "application/grpc")
	return ok && (rest == "" || rest[0] == '+' || rest[0] == ';')
}

// grpcStatus maps a status as gRPC's own document on HTTP statuses does.
func grpcStatus(status int) int {
	switch status {
	case http.StatusBadRequest:
		return 13 // internal
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return 12 // unimplemented
	case http.StatusGatewayTimeout, http.StatusRequestTimeout:
		return 4 // deadline exceeded
	default:
		return 14 // unavailable
	}
}
