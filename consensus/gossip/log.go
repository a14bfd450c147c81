package gossip

import (
	"bytes"
	"log"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// Reasons for which traffic is refused, as the metric names them.
const (
	reasonLabel     = "cluster_id" // of another cluster
	reasonKey       = "key"        // encrypted with a key that is not this cluster's
	reasonMalformed = "malformed"
	reasonIdentity  = "identity" // a node that can be no member: name, address, versions
	reasonOverload  = "overload" // too many streams at once
)

const (
	quietTime = time.Minute // a kind of line is logged once in this time
	quietMax  = 256         // kinds remembered
)

// memberlist tells of what it refuses in its log only. The texts are those of the
// version in go.mod; tests hold them to it.
var refusals = []struct{ text, reason string }{
	{"unacceptable label", reasonLabel},
	{"label header", reasonLabel},
	{"no installed keys could decrypt", reasonKey},
	{"remote state is not encrypted", reasonKey},
	{"Decrypt packet failed", reasonKey},
	{"is incompatible", reasonIdentity},
	{"failed to receive", reasonMalformed},
	{"Failed to receive", reasonMalformed},
	{"Failed to decode", reasonMalformed},
	{"Failed to decompress", reasonMalformed},
	{"Failed to read remote state", reasonMalformed},
	{"invalid checksum", reasonMalformed},
	{"not supported", reasonMalformed},
	{"invalid msgType", reasonMalformed},
}

// Lines about what is everyday life, or what the package logs by itself.
var dropped = []string{
	"Stream connection", "Initiating push/pull", "Conflicting address for", "ignoring alive message",
	"remote error: ", errRead.Error(),
}

// logWriter takes memberlist's log lines.
type logWriter struct {
	log     *slog.Logger
	now     func() time.Time
	refused func(reason string)

	mu    sync.Mutex
	quiet map[string]*quiet
}

type quiet struct {
	until      time.Time
	suppressed int
}

func (w *logWriter) logger() *log.Logger { return log.New(w, "", 0) }

// Write implements io.Writer for log.Logger, which calls it once a line.
func (w *logWriter) Write(b []byte) (int, error) {
	level, msg := parseLine(string(bytes.TrimSpace(b)))
	for _, d := range dropped {
		if strings.Contains(msg, d) {
			return len(b), nil
		}
	}
	for _, r := range refusals {
		if strings.Contains(msg, r.text) {
			w.refuse(r.reason, msg)
			return len(b), nil
		}
	}
	if level == slog.LevelDebug {
		w.log.Debug(msg, "component", "memberlist")
	} else {
		w.once(kind(msg), quietTime, level, msg, "component", "memberlist")
	}
	return len(b), nil
}

// refuse counts refused traffic and logs it once an hour for each source.
func (w *logWriter) refuse(reason, msg string) {
	w.refused(reason)
	from := "unknown"
	if _, addr, ok := strings.Cut(msg, "from="); ok {
		from, _, _ = strings.Cut(addr, " ")
	}
	host := from
	if i := strings.LastIndexByte(from, ':'); i > 0 {
		host = from[:i]
	}
	w.once(reason+" "+host, time.Hour, slog.LevelWarn, "refused gossip: "+msg, "reason", reason, "from", from)
}

// once logs, as a warning or an error, at most one line of a kind in a while, with the number of those left out.
func (w *logWriter) once(kind string, while time.Duration, level slog.Level, msg string, args ...any) {
	now := w.now()
	w.mu.Lock()
	q := w.quiet[kind]
	if q != nil && now.Before(q.until) {
		q.suppressed++
		w.mu.Unlock()
		return
	}
	if q != nil && q.suppressed > 0 {
		args = append(args, "suppressed", q.suppressed)
	}
	if len(w.quiet) >= quietMax || w.quiet == nil {
		w.quiet = map[string]*quiet{}
	}
	w.quiet[kind] = &quiet{until: now.Add(while)}
	w.mu.Unlock()
	if level >= slog.LevelError {
		w.log.Error(msg, args...)
	} else {
		w.log.Warn(msg, args...)
	}
}

// parseLine splits "[WARN] memberlist: text". What memberlist calls an error is a packet
// that could not be sent; what it calls information is logged better by this package.
func parseLine(line string) (slog.Level, string) {
	level := slog.LevelWarn
	if tag, rest, ok := strings.Cut(line, "] "); ok && strings.HasPrefix(tag, "[") {
		line = rest
		if tag == "[DEBUG" || tag == "[INFO" {
			level = slog.LevelDebug
		}
	}
	return level, strings.TrimPrefix(line, "memberlist: ")
}

// kind is how a line begins, without names and numbers.
func kind(msg string) string {
	words := strings.Fields(msg)
	words = words[:min(len(words), 4)]
	for i, w := range words {
		if strings.ContainsAny(w, "0123456789") {
			words[i] = "#"
		}
	}
	return strings.Join(words, " ")
}
