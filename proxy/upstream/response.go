package upstream

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"os"
	"strconv"
	"strings"
)

// Response is the head of a response, valid until the next one is read from its
// connection.
type Response struct {
	Status int
	// Length is the length of the body; -1 when it is not known ahead.
	Length int64
	// Upgrade is the Upgrade field of a 101 response.
	Upgrade string
	// Trailers are the announced names of trailer fields.
	Trailers []string

	fields    []field // end-to-end fields, in order
	trailer   []field
	keepAlive bool
	chunked   bool
	lengths   int // number of Content-Length fields seen
}

type field struct{ key, value string }

// Get returns the first value of a field, by its canonical name.
func (r *Response) Get(key string) string {
	for i := range r.fields {
		if r.fields[i].key == key {
			return r.fields[i].value
		}
	}
	return ""
}

// AddTo adds the end-to-end fields to h.
func (r *Response) AddTo(h http.Header) { addFields(h, "", r.fields) }

// AddTrailerTo adds the trailer fields to h, each name behind prefix.
func (r *Response) AddTrailerTo(h http.Header, prefix string) { addFields(h, prefix, r.trailer) }

// HasTrailer reports whether trailer fields came after the body.
func (r *Response) HasTrailer() bool { return len(r.trailer) > 0 }

func addFields(h http.Header, prefix string, fields []field) {
	values := make([]string, len(fields)) // one allocation for all
	for i, f := range fields {
		key := f.key
		if prefix != "" {
			key = prefix + key
		}
		if old, ok := h[key]; ok {
			h[key] = append(old, f.value)
			continue
		}
		values[i] = f.value
		h[key] = values[i : i+1 : i+1]
	}
}

// ReadResponse reads the head of the next response to a request of that method. An
// informational response (1xx) is returned like any other; the final one follows.
func (c *Conn) ReadResponse(method string) (*Response, error) {
	text, err := c.readBlock()
	if err != nil {
		return nil, err
	}
	if err := c.resp.parse(text); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	r := &c.resp
	switch {
	case r.Status < 200, r.Status == http.StatusNoContent, r.Status == http.StatusNotModified, method == http.MethodHead:
		if r.chunked && method != http.MethodHead {
			r.keepAlive = false // it may send chunks where none belong
		}
		c.startBody(noBody, 0)
	case r.chunked:
		c.startBody(byChunks, 0)
	case r.Length >= 0:
		c.startBody(byLength, r.Length)
	default:
		r.keepAlive = false
		c.startBody(byClose, 0)
	}
	return r, nil
}

// readBlock reads lines up to and with an empty one.
func (c *Conn) readBlock() (string, error) {
	c.head = c.head[:0]
	fresh := true // at the start of a line
	for {
		line, err := c.br.ReadSlice('\n')
		c.head = append(c.head, line...)
		switch {
		case len(c.head) > maxHead:
			return "", fmt.Errorf("%w: head over %d bytes", ErrMalformed, maxHead)
		case errors.Is(err, bufio.ErrBufferFull):
			fresh = false
			continue
		case err != nil:
			return "", headError(err, len(c.head))
		case fresh && (len(line) == 1 || len(line) == 2 && line[0] == '\r'):
			return string(c.head), nil
		}
		fresh = true
	}
}

func headError(err error, got int) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("read response: %w", err)
	}
	if got > 0 && errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%w: %w", ErrNoResponse, err)
}

// readTrailer reads what follows the last chunk. With later set, a trailer that has not
// arrived yet is left for the next call.
func (c *Conn) readTrailer(later bool) error {
	if later && c.br.Buffered() < 2 {
		return nil
	}
	if p, err := c.br.Peek(2); err == nil && p[0] == '\r' && p[1] == '\n' {
		_, _ = c.br.Discard(2)
		c.body.ended = true
		return io.EOF
	}
	if later {
		return nil
	}
	text, err := c.readBlock()
	if err != nil {
		return err
	}
	fields, err := parseFields(c.resp.trailer[:0], text)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	c.resp.trailer = fields[:0]
	for _, f := range fields {
		if !HopByHop(f.key) && !strings.HasPrefix(f.key, "Content-") && f.key != "Host" {
			c.resp.trailer = append(c.resp.trailer, f)
		}
	}
	c.body.ended = true
	return io.EOF
}

// parse reads a whole head, status line to empty line.
func (r *Response) parse(text string) error {
	*r = Response{Length: -1, fields: r.fields[:0], trailer: r.trailer[:0], Trailers: r.Trailers[:0]}
	line, rest := cutLine(text)
	minor, err := r.parseStatus(line)
	if err != nil {
		return err
	}
	r.keepAlive = minor >= 1
	if r.fields, err = parseFields(r.fields, rest); err != nil {
		return err
	}
	return r.sortOut(minor)
}

// parseStatus reads the status line and returns the minor version.
func (r *Response) parseStatus(line string) (minor byte, err error) {
	version, rest, _ := strings.Cut(line, " ")
	code, _, _ := strings.Cut(rest, " ")
	if len(version) != 8 || version[:7] != "HTTP/1." || version[7] < '0' || version[7] > '9' ||
		len(code) != 3 || code[0] < '1' || !digits(code) {
		return 0, fmt.Errorf("status line %.40q", line)
	}
	r.Status, _ = strconv.Atoi(code)
	return version[7] - '0', nil
}

// sortOut takes the connection's own fields out of the end-to-end ones.
func (r *Response) sortOut(minor byte) error {
	all := r.fields
	r.fields = r.fields[:0]
	var nominating []string
	for _, f := range all {
		switch f.key {
		case "Connection":
			nominating = append(nominating, f.value)
			if hasToken(f.value, "close") {
				r.keepAlive = false
			} else if minor == 0 && hasToken(f.value, "keep-alive") {
				r.keepAlive = true
			}
			continue
		case "Transfer-Encoding":
			if r.chunked || minor == 0 || !strings.EqualFold(f.value, "chunked") {
				return fmt.Errorf("transfer encoding %.40q", f.value)
			}
			r.chunked = true
		case "Content-Length":
			if err := r.setLength(f.value); err != nil {
				return err
			}
			continue
		case "Upgrade":
			r.Upgrade = f.value
		case "Trailer":
			for name := range strings.SplitSeq(f.value, ",") {
				if key := textproto.CanonicalMIMEHeaderKey(textproto.TrimString(name)); validToken(key) && !HopByHop(key) {
					r.Trailers = append(r.Trailers, key)
				}
			}
		}
		if !HopByHop(f.key) {
			r.fields = append(r.fields, f)
		}
	}
	if r.chunked && r.lengths > 0 {
		// Chunks win (RFC 9112, 6.3); the pair smells of smuggling, so that nothing
		// more is read from this connection.
		r.Length, r.lengths, r.keepAlive = -1, 0, false
	}
	if r.lengths > 0 {
		r.fields = append(r.fields, field{"Content-Length", strconv.FormatInt(r.Length, 10)})
	}
	Nominated(nominating, r.drop)
	return nil
}

func (r *Response) drop(key string) {
	kept := r.fields[:0]
	for _, f := range r.fields {
		if f.key != key {
			kept = append(kept, f)
		}
	}
	r.fields = kept
}

func (r *Response) setLength(value string) error {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil || !digits(value) || r.lengths > 0 && n != r.Length {
		return fmt.Errorf("content length %.40q", value)
	}
	r.Length = n
	r.lengths++
	return nil
}

// parseFields appends the fields of lines up to an empty one.
func parseFields(fields []field, text string) ([]field, error) {
	for {
		var line string
		line, text = cutLine(text)
		if line == "" {
			return fields, nil
		}
		name, value, ok := strings.Cut(line, ":")
		value = textproto.TrimString(value)
		if !ok || !validToken(name) || !validValue(value) {
			return nil, fmt.Errorf("field %.40q", line)
		}
		fields = append(fields, field{textproto.CanonicalMIMEHeaderKey(name), value})
	}
}

// cutLine cuts text after its first line, which is returned without its end.
func cutLine(text string) (line, rest string) {
	line, rest, _ = strings.Cut(text, "\n")
	return strings.TrimSuffix(line, "\r"), rest
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// tokenBytes marks the bytes that may occur in a field's name (RFC 9110, 5.6.2).
var tokenBytes = func() (set [256]bool) {
	for c := '0'; c <= 'z'; c++ {
		set[c] = '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		set[c] = true
	}
	return set
}()

func validToken(s string) bool {
	for i := range len(s) {
		if !tokenBytes[s[i]] {
			return false
		}
	}
	return s != ""
}

func validValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
