package proxy

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/tenement-fleet/tenement/proxy/upstream"
)

// spoofable is the fields by which a client could pretend to be a proxy in front of
// this one: who it is, which host or path it asked for. They never reach a program but
// from here.
var spoofable = map[string]bool{
	"Forwarded": true, "X-Forwarded": true, "Forwarded-For": true, "X-Real-Ip": true, "X-Client-Ip": true,
	"Client-Ip": true, "True-Client-Ip": true, "Cf-Connecting-Ip": true, "Fastly-Client-Ip": true,
	"X-Cluster-Client-Ip": true, "X-Remote-Ip": true, "X-Remote-Addr": true, "X-Envoy-External-Address": true,
	"X-Original-Forwarded-For": true, "X-Original-Host": true, "X-Original-Url": true, "X-Rewrite-Url": true,
	"X-Host": true, "X-Scheme": true, "X-Url-Scheme": true, "Proxy": true,
}

// ours reports whether a field, by its canonical name, is set by this proxy alone or
// concerns one connection only.
func ours(key string) bool {
	switch key {
	case "Host", "Content-Length", "Expect", "X-Request-Id":
		return true
	}
	return strings.HasPrefix(key, "X-Forwarded-") || strings.HasPrefix(key, "Tenement-") || spoofable[key] || upstream.HopByHop(key)
}

// passes reports whether a request's field goes on to the program. A name with '_' is
// judged as if it had '-': CGI and WSGI programs can't tell the two apart.
func passes(key string) bool {
	if strings.IndexByte(key, '_') >= 0 {
		key = http.CanonicalHeaderKey(strings.ReplaceAll(key, "_", "-"))
	}
	return !ours(key)
}

// eachForwarded calls yield with every field of a request that goes on to the program.
func eachForwarded(h http.Header, yield func(key string, values []string)) {
	nominated := nominatedBy(h["Connection"])
	for key, values := range h {
		if passes(key) && (nominated == nil || !slices.Contains(nominated, key)) {
			yield(key, values)
		}
	}
}

// nominatedBy returns the fields that Connection declares hop-by-hop.
func nominatedBy(connection []string) (keys []string) {
	if len(connection) == 0 || len(connection) == 1 && (strings.EqualFold(connection[0], "keep-alive") || strings.EqualFold(connection[0], "close")) {
		return nil
	}
	upstream.Nominated(connection, func(key string) { keys = append(keys, key) })
	return keys
}

// provenance is what the program is told about where a request came from.
type provenance struct {
	forwardedFor string // X-Forwarded-For
	forwarded    string // Forwarded, RFC 7239; "" when the other three say it all
	proto, host  string
}

// elements returns the whole of Forwarded.
func (t provenance) elements() string {
	if t.forwarded != "" {
		return t.forwarded
	}
	return t.element(t.forwardedFor)
}

// element returns what Forwarded says about a client at an address.
func (t provenance) element(addr string) string {
	if strings.IndexByte(addr, ':') >= 0 {
		addr = `"[` + addr + `]"`
	}
	return "for=" + addr + `;host="` + quoted(t.host) + `";proto=` + t.proto
}

// eachTrace calls yield with the fields that say where the request came from. Another
// node gets those that it can't tell from the others: each costs it as much as any field.
func (c *call) eachTrace(yield func(key, value string)) {
	t := c.trace()
	yield("X-Forwarded-For", t.forwardedFor)
	if !c.passOn || t.proto != "http" {
		yield("X-Forwarded-Proto", t.proto)
	}
	if !c.passOn || t.host != c.r.Host {
		yield("X-Forwarded-Host", t.host)
	}
	if !c.passOn || t.forwarded != "" {
		yield("Forwarded", t.elements())
	}
}

// trace finds out where the request came from. The node that passed it on has done that.
func (c *call) trace() provenance {
	if !c.peer {
		return c.p.trace(c.r)
	}
	h := c.r.Header
	return provenance{
		forwardedFor: h.Get("X-Forwarded-For"), forwarded: h.Get("Forwarded"),
		proto: cmp.Or(h.Get("X-Forwarded-Proto"), "http"), host: cmp.Or(h.Get("X-Forwarded-Host"), c.r.Host),
	}
}

// trace finds out where a request came from. What a trusted proxy says about the hops
// before it is kept; from anybody else it is a claim.
func (p *Proxy) trace(r *http.Request) provenance {
	addr := peerAddr(r.RemoteAddr)
	t := provenance{forwardedFor: addr, proto: "http", host: r.Host}
	if r.TLS != nil {
		t.proto = "https"
	}
	if len(p.trusted) == 0 || !p.isTrusted(addr) {
		return t
	}
	if v := r.Header.Get("X-Forwarded-Proto"); v == "http" || v == "https" {
		t.proto = v
	}
	if v := r.Header.Get("X-Forwarded-Host"); v != "" {
		t.host = v
	}
	if v := r.Header["X-Forwarded-For"]; len(v) > 0 {
		t.forwardedFor = strings.Join(v, ", ") + ", " + addr
		t.forwarded = t.element(addr)
	}
	if v := r.Header["Forwarded"]; len(v) > 0 {
		t.forwarded = strings.Join(v, ", ") + ", " + t.element(addr)
	}
	return t
}

// quoted escapes text for a quoted-string.
func quoted(s string) string {
	if strings.ContainsAny(s, `"\`) {
		s = strings.NewReplacer(`"`, `\"`, `\`, `\\`).Replace(s)
	}
	return s
}

// peerAddr returns the address part of RemoteAddr, without zone; "unknown" for a unix
// socket, which has none.
func peerAddr(remote string) string {
	i := strings.LastIndexByte(remote, ':')
	if i < 0 {
		return "unknown"
	}
	addr := strings.Trim(remote[:i], "[]")
	if i := strings.IndexByte(addr, '%'); i >= 0 {
		addr = addr[:i]
	}
	return addr
}

func (p *Proxy) isTrusted(addr string) bool {
	ip, err := netip.ParseAddr(addr)
	if err != nil {
		return false
	}
	ip = ip.Unmap()
	return slices.ContainsFunc(p.trusted, func(net netip.Prefix) bool { return net.Contains(ip) })
}

// maxRequestID is the longest X-Request-Id that is taken over from a client.
const maxRequestID = 128

// requestID returns the client's X-Request-Id if it is sane, else a new one.
func requestID(h http.Header) string {
	if v := h["X-Request-Id"]; len(v) == 1 && saneID(v[0]) {
		return v[0]
	}
	var raw [16]byte
	binary.BigEndian.PutUint64(raw[:8], rand.Uint64()) //nolint:gosec // a name, not a secret
	binary.BigEndian.PutUint64(raw[8:], rand.Uint64()) //nolint:gosec // likewise
	var text [32]byte
	hex.Encode(text[:], raw[:])
	return string(text[:])
}

func saneID(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case strings.IndexByte("-_.:=+/@~", c) >= 0:
		default:
			return false
		}
	}
	return s != "" && len(s) <= maxRequestID
}

// appendHead appends the head of a request as an HTTP/1.1 backend gets it.
func (c *call) appendHead(b []byte) []byte {
	r := c.r
	b = append(b, r.Method...)
	b = append(b, ' ')
	b = append(b, requestTarget(r)...)
	b = append(b, " HTTP/1.1\r\n"...)
	b = appendField(b, "Host", r.Host)
	eachForwarded(r.Header, func(key string, values []string) {
		for _, v := range values {
			b = appendField(b, key, v)
		}
	})
	b = c.appendFraming(b)
	if c.passOn {
		b = appendField(b, HeaderInstance, c.passedTo.String())
	}
	c.eachTrace(func(key, value string) { b = appendField(b, key, value) })
	b = appendField(b, "X-Request-Id", c.id)
	return append(b, "\r\n"...)
}

// appendFraming appends the fields that say how the body comes and what the
// connection is for.
func (c *call) appendFraming(b []byte) []byte {
	r := c.r
	switch {
	case c.upgrade:
		return append(b, "Connection: Upgrade\r\nUpgrade: websocket\r\n"...)
	case c.hasBody && r.ContentLength > 0:
		b = appendLength(b, r.ContentLength)
	case c.hasBody:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
		for name := range r.Trailer {
			if passes(name) {
				b = appendField(b, "Trailer", name)
			}
		}
	case r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch:
		b = appendLength(b, 0)
	}
	if c.expects || c.passOn && c.hasBody {
		b = append(b, "Expect: 100-continue\r\n"...)
	}
	if c.expects && c.passOn {
		b = append(b, headerExpects+": 1\r\n"...)
	}
	if wantsTrailers(r.Header) {
		b = append(b, "Te: trailers\r\n"...)
	}
	return b
}

func appendLength(b []byte, n int64) []byte {
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, n, 10)
	return append(b, "\r\n"...)
}

func appendField(b []byte, key, value string) []byte {
	b = append(b, key...)
	b = append(b, ": "...)
	b = append(b, value...)
	return append(b, "\r\n"...)
}

// requestTarget returns path and query as the client sent them.
func requestTarget(r *http.Request) string {
	if strings.HasPrefix(r.RequestURI, "/") || r.RequestURI == "*" {
		return r.RequestURI
	}
	return r.URL.RequestURI()
}

func wantsTrailers(h http.Header) bool {
	for _, v := range h["Te"] {
		if hasToken(v, "trailers") {
			return true
		}
	}
	return false
}

// hasToken reports whether a comma-separated list holds a token, parameters aside.
func hasToken(list, token string) bool {
	for part := range strings.SplitSeq(list, ",") {
		name, _, _ := strings.Cut(part, ";")
		if strings.EqualFold(strings.TrimSpace(name), token) {
			return true
		}
	}
	return false
}
