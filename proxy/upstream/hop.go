package upstream

import (
	"net/textproto"
	"strings"
)

// HopByHop reports whether a header field, by its canonical name, concerns one
// connection only and is never forwarded.
func HopByHop(key string) bool {
	switch key {
	case "Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization",
		"Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings":
		return true
	default:
		return false
	}
}

// Nominated calls yield with the canonical name of each field that Connection values
// declare hop-by-hop. Fields whose meaning is end-to-end by their own definition are
// left out: naming one is a mistake, or an attempt to hide it from the backend.
func Nominated(connection []string, yield func(key string)) {
	for _, v := range connection {
		for name := range strings.SplitSeq(v, ",") {
			if key := textproto.CanonicalMIMEHeaderKey(textproto.TrimString(name)); key != "" && !endToEnd(key) {
				yield(key)
			}
		}
	}
}

func endToEnd(key string) bool {
	switch key {
	case "Accept", "Accept-Charset", "Accept-Encoding", "Accept-Language", "Accept-Ranges", "Age", "Allow",
		"Authorization", "Cache-Control", "Cookie", "Date", "Etag", "Expect", "Expires", "Forwarded", "From",
		"Host", "Last-Modified", "Location", "Origin", "Pragma", "Range", "Referer", "Retry-After", "Server",
		"Set-Cookie", "Strict-Transport-Security", "User-Agent", "Vary", "Via", "Www-Authenticate",
		"X-Request-Id", "X-Requested-With", "X-Frame-Options", "X-Csrf-Token":
		return true
	}
	for _, prefix := range [...]string{"Access-Control-", "Content-", "Cross-Origin-", "If-", "Sec-", "X-Content-Type-", "X-Forwarded-"} {
		if strings.HasPrefix(key, prefix) {
			return true
		}
	}
	return false
}

// hasToken reports whether a comma-separated list holds a token, case-insensitively.
func hasToken(list, token string) bool {
	for part := range strings.SplitSeq(list, ",") {
		if strings.EqualFold(textproto.TrimString(part), token) {
			return true
		}
	}
	return false
}
