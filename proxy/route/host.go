package route

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"
)

// ErrHost is returned by [ParseHost] for text that is no host.
var ErrHost = errors.New("parse host: not a host name or IP literal")

// maxHostLen is the longest DNS name, in bytes.
const maxHostLen = 253

// maxLabelLen is the longest label of a DNS name, in bytes.
const maxLabelLen = 63

// Host is the validated host of a request, without its port.
type Host struct {
	// Name is lower-case and has no trailing dot; for an IPv6 literal, no brackets.
	Name string
	// IP says that Name is an IP literal.
	IP bool
}

// ParseHost reads the Host header or :authority of a request: a DNS name (labels of
// letters, digits, '-' and '_') or an IP literal, with or without a port. It does not
// allocate unless upper-case letters have to be lowered.
func ParseHost(s string) (Host, error) {
	if strings.HasPrefix(s, "[") {
		return parseIPv6(s)
	}
	if i := strings.IndexByte(s, ':'); i >= 0 {
		if !validPort(s[i+1:]) {
			return Host{}, ErrHost
		}
		s = s[:i]
	}
	s = strings.TrimSuffix(s, ".")
	upper, ok := checkName(s)
	if !ok {
		return Host{}, ErrHost
	}
	if upper {
		s = strings.ToLower(s)
	}
	// A name whose last label is a number can only be an IPv4 address (RFC 3986, WHATWG URL).
	if last := s[strings.LastIndexByte(s, '.')+1:]; '0' <= last[0] && last[0] <= '9' && isNumber(last) {
		if addr, err := netip.ParseAddr(s); err != nil || !addr.Is4() {
			return Host{}, ErrHost
		}
		return Host{Name: s, IP: true}, nil
	}
	return Host{Name: s}, nil
}

func parseIPv6(s string) (Host, error) {
	end := strings.IndexByte(s, ']')
	if end < 0 {
		return Host{}, ErrHost
	}
	inner, rest := s[1:end], s[end+1:]
	if rest != "" && (rest[0] != ':' || !validPort(rest[1:])) {
		return Host{}, ErrHost
	}
	addr, err := netip.ParseAddr(inner)
	if err != nil || !addr.Is6() || addr.Zone() != "" {
		return Host{}, ErrHost
	}
	return Host{Name: strings.ToLower(inner), IP: true}, nil
}

// checkName reports whether s is a DNS name, and whether it has upper-case letters.
func checkName(s string) (upper, ok bool) {
	if len(s) == 0 || len(s) > maxHostLen {
		return false, false
	}
	label := 0
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
			label++
		case 'A' <= c && c <= 'Z':
			upper = true
			label++
		case c == '.' && label > 0:
			label = 0
			continue
		default:
			return false, false
		}
		if label > maxLabelLen {
			return false, false
		}
	}
	return upper, label > 0
}

// validPort accepts the empty port too: "host:" is a valid authority.
func validPort(s string) bool {
	if s == "" {
		return true
	}
	if len(s) > 5 || !isDecimal(s) {
		return false
	}
	n, err := strconv.Atoi(s)
	return err == nil && n <= 65535
}

func isDecimal(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// isNumber reports whether a label reads as a number to somebody: decimal, or 0x hex.
func isNumber(s string) bool {
	if isDecimal(s) {
		return true
	}
	if !strings.HasPrefix(s, "0x") {
		return false
	}
	_, err := strconv.ParseUint(s[2:], 16, 64)
	return err == nil || len(s) == 2
}
