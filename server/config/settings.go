package config

import (
	"slices"
	"strconv"
	"strings"

	"github.com/tenement-fleet/tenement/api"
)

// readTable reads the keys below path out of values into t. seen is told of every key
// whose value was taken.
func readTable[T any](l *loader, path []string, prefix string, values map[string]any, keys []key[T], t *T, seen func(name string)) {
	for _, name := range sortedKeys(values) {
		v := values[name]
		at := append(slices.Clone(path), name)
		if i := slices.IndexFunc(keys, func(k key[T]) bool { return k.name == prefix+name }); i >= 0 {
			if next := *t; keys[i].set(&next, v) {
				*t = next
				seen(prefix + name)
			} else {
				l.badValue(at, v, keys[i].want)
			}
			continue
		}
		below := below(prefix+name+".", keys)
		if len(below) == 0 {
			l.unknown(at, firstParts(prefix, names(keys)))
			continue
		}
		if sub, ok := v.(map[string]any); ok {
			readTable(l, at, prefix+name+".", sub, keys, t, seen)
		} else {
			l.add(at, shown(v), "a table", "")
		}
	}
}

// badValue reports a value that a key does not allow; of a collection of texts, each
// element that is none. Those of an environment may be secrets, and are not repeated.
func (l *loader) badValue(at []string, v any, want string) {
	before, say := len(l.problems), shown
	if at[len(at)-1] == "env" {
		say = kindOf
	}
	switch v := v.(type) {
	case []any:
		for i, item := range v {
			if _, ok := item.(string); !ok && strings.HasPrefix(want, "a list of texts") {
				l.add(append(slices.Clone(at), index(i)), say(item), "text in quotes", "")
			}
		}
	case map[string]any:
		for _, name := range sortedKeys(v) {
			if _, ok := v[name].(string); !ok && strings.HasPrefix(want, "a table of texts") {
				l.add(append(slices.Clone(at), name), say(v[name]), "text in quotes", "")
			}
		}
	}
	if len(l.problems) == before {
		l.add(at, say(v), want, "")
	}
}

func below[T any](prefix string, keys []key[T]) []key[T] {
	var out []key[T]
	for _, k := range keys {
		if strings.HasPrefix(k.name, prefix) {
			out = append(out, k)
		}
	}
	return out
}

// firstParts returns what may stand after prefix, up to the next dot.
func firstParts(prefix string, names []string) []string {
	var out []string
	for _, name := range names {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			first, _, _ := strings.Cut(rest, ".")
			if !slices.Contains(out, first) {
				out = append(out, first)
			}
		}
	}
	return out
}

// asTable returns the table at path; nil, reported, when something else is there.
func (l *loader) asTable(path []string, v any) map[string]any {
	m, ok := v.(map[string]any)
	if !ok && v != nil {
		l.add(path, shown(v), "a table", "")
	}
	return m
}

// readSettings reads what ten itself is told: the tables of ownTables, variables, flags.
func (l *loader) readSettings() {
	for _, t := range ownTables {
		path := []string{t.name}
		before := len(l.problems)
		readTable(l, path, "", l.asTable(path, l.doc.root[t.name]), t.keys, l.cfg, func(name string) {
			l.from[name] = origin{line: l.doc.line(append([]string{t.name}, strings.Split(name, ".")...))}
			l.resolveSetting(l.dir, name)
		})
		for i := range l.problems[before:] {
			p := &l.problems[before+i]
			p.setting = strings.TrimPrefix(p.Key, t.name+".")
		}
	}
	flags := l.o.Flags.texts()
	for _, k := range ownKeys {
		if v, ok := l.env[variable(k.name)]; ok {
			l.override(k, variable(k.name), v)
		}
		if f, ok := flags[k.name]; ok {
			l.override(k, f.flag, f.text)
		}
	}
	l.checkSettings()
}

// resolveSetting makes a setting that is a path absolute: from where it was written.
func (l *loader) resolveSetting(dir, name string) {
	for _, path := range []struct {
		name string
		at   *string
	}{
		{"data_dir", &l.cfg.DataDir},
		{"secret_file", &l.cfg.Cluster.SecretFile},
		{"token_file", &l.cfg.Cluster.TokenFile},
	} {
		if path.name == name && *path.at != "" {
			*path.at = l.abs(dir, *path.at)
		}
	}
}

// variable returns the name of the variable for a setting.
func variable(setting string) string {
	return "TENEMENT_" + strings.ToUpper(strings.ReplaceAll(setting, ".", "_"))
}

// override sets a setting from the text of a variable or flag.
func (l *loader) override(k key[Config], name, text string) {
	candidates := []any{text}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		candidates = append(candidates, n)
	}
	if b, err := strconv.ParseBool(text); err == nil {
		candidates = append(candidates, b)
	}
	candidates = append(candidates, listed(text), paired(text))
	for _, v := range candidates {
		next := *l.cfg
		if k.set(&next, v) {
			*l.cfg = next
			l.from[k.name] = origin{name: name}
			l.resolveSetting(l.o.Dir, k.name)
			return
		}
	}
	l.problems = append(l.problems, Problem{Key: name, Got: quoted(text), Want: k.want, setting: k.name})
}

// listed reads "a,b" as a list.
func listed(text string) []any {
	out := []any{}
	for item := range strings.SplitSeq(text, ",") {
		out = append(out, strings.TrimSpace(item))
	}
	return out
}

// paired reads "a=1,b=2" as a table; nil if it is none.
func paired(text string) any {
	out := make(map[string]any)
	for item := range strings.SplitSeq(text, ",") {
		name, v, ok := strings.Cut(strings.TrimSpace(item), "=")
		if !ok {
			return nil
		}
		out[name] = v
	}
	return out
}

// addSetting reports a setting whose value broke a rule, wherever that came from.
func (l *loader) addSetting(setting, got, want, hint string) {
	p := Problem{Key: tableOf(setting) + "." + setting, Got: got, Want: want, Hint: hint, setting: setting}
	if o := l.from[setting]; o.name != "" {
		p.Key = o.name
	} else {
		p.File, p.Line = l.cfg.File, o.line
	}
	l.problems = append(l.problems, p)
}

func tableOf(setting string) string {
	for table, k := range ownKeys {
		if k.name == setting {
			return table
		}
	}
	return ""
}

func (l *loader) checkSettings() {
	l.checkCluster()
	if l.cfg.TLS.Enabled {
		l.addSetting("tls.enabled", "true", "false: this build of ten has no TLS of its own yet",
			"let a proxy such as Caddy hold the certificates in front of it")
	}
	if !validDomain(l.cfg.Domain) {
		l.addSetting("domain", quoted(l.cfg.Domain), `a host name such as "example.com"`, "")
	}
	// The defaults of services are held against api's rules by a service that has nothing else.
	probe := api.Service{Name: "x", Command: "x"}
	l.applyDefaults(&probe)
	probe.SetDefaults()
	fields, _ := probe.Validate().(api.FieldErrors) //nolint:errorlint // Validate returns no other
	for _, fe := range fields {
		for _, k := range settingKeys {
			if k.field == fe.Field {
				l.addSetting(k.name, quoted(fe.Got), fe.Want, "")
			}
		}
	}
}

func (l *loader) applyDefaults(s *api.Service) {
	d := l.cfg.Defaults
	s.HealthInterval, s.MaxRestarts, s.RestartWindow = d.HealthInterval, d.MaxRestarts, d.RestartWindow
	s.BackoffBase, s.BackoffMax = d.BackoffBase, d.BackoffMax
}

// validDomain reports whether s is a DNS name: labels of letters, digits and inner hyphens.
func validDomain(s string) bool {
	if len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "-") != label || !bareKey(label) {
			return false
		}
	}
	return true
}

// unenforced names the limits that are kept for a later version.
func (l *loader) unenforced() []string {
	var out []string
	for _, s := range l.cfg.Services {
		for _, limit := range []struct {
			key, effect string
			given       bool
		}{
			{"memory_limit_mb", "is not enforced by this version", s.MemoryLimit > 0},
			{"cpu_shares", "is not enforced by this version", s.CPUShares > 0},
			{"storage_quota_mb", "is reported, but not enforced, by this version", s.StorageQuota > 0},
		} {
			if limit.given {
				out = append(out, "service."+s.Name+"."+limit.key+" "+limit.effect)
			}
		}
	}
	return out
}

// otherVariables are those, after TENEMENT_, that mean something to other parts of ten.
var otherVariables = []string{
	"CONFIG", "SERVER", "TOKEN", // the command line's
	"SERVICE", "INSTANCE", "START", // those of a program that ten runs
}

// warnings names what has no effect though somebody may think it has.
func (l *loader) warnings() []string {
	out := l.unenforced()
	const prefix = "TENEMENT_"
	known := slices.Clone(otherVariables)
	for _, k := range ownKeys {
		known = append(known, strings.TrimPrefix(variable(k.name), prefix))
		if strings.HasPrefix(k.name, "tls.") && k.name != "tls.enabled" && !l.cfg.TLS.Enabled {
			if _, given := l.from[k.name]; given {
				out = append(out, "settings."+k.name+" has no effect while settings.tls.enabled is false")
			}
		}
	}
	if len(l.cfg.TLSNames) > 0 && l.cfg.TLSPort == 0 {
		out = append(out, "settings.tls_names has no effect while settings.tls_port is 0")
	}
	for _, name := range sortedKeys(l.env) {
		if rest, ours := strings.CutPrefix(name, prefix); ours && !slices.Contains(known, rest) {
			w := "the variable " + name + " means nothing to ten"
			if hint := didYouMean(rest, known); hint != "" {
				w += " (" + hint + ")"
			}
			out = append(out, w)
		}
	}
	return out
}
