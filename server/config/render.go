package config

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tenement-fleet/tenement/api"
)

// Render writes the configuration as a tenement.toml with every default spelled out.
// Loading it again gives the same configuration.
func (c *Config) Render() []byte {
	var b bytes.Buffer
	for _, t := range ownTables {
		renderTable(&b, []string{t.name}, t.keys, c)
	}
	for _, s := range c.Services {
		renderTable(&b, []string{"service", s.Name}, serviceKeys, s)
	}
	ids := make(map[string][]string)
	for _, ref := range c.Instances {
		ids[ref.Service] = append(ids[ref.Service], ref.ID)
	}
	if len(ids) > 0 {
		header(&b, []string{"instances"})
		for _, name := range sortedKeys(ids) {
			assign(&b, name, ids[name])
		}
	}
	if r := &c.Routing; r.Default != "" || len(r.Subdomain) > 0 || len(r.Path) > 0 {
		renderTable(&b, []string{"routing"}, routingKeys, r)
	}
	return b.Bytes()
}

// Redacted returns the configuration as it is shown: without the values of secret variables.
func (c *Config) Redacted() *Config {
	r := *c
	r.Services = make([]*api.Service, len(c.Services))
	for i, s := range c.Services {
		r.Services[i] = s.Redacted()
	}
	return &r
}

// renderTable writes a table and then those below it.
func renderTable[T any](b *bytes.Buffer, path []string, keys []key[T], t *T) {
	header(b, path)
	below := func(k key[T]) bool { return strings.Contains(k.name, ".") || strings.HasPrefix(k.want, "a table") }
	for _, k := range keys {
		if v := k.get(t); v != nil && !below(k) {
			assign(b, k.name, v)
		}
	}
	last := ""
	for _, k := range keys {
		v := k.get(t)
		if v == nil || !below(k) {
			continue
		}
		switch m := v.(type) {
		case map[string]string:
			renderMap(b, path, k.name, m)
			continue
		case map[string]int:
			renderMap(b, path, k.name, m)
			continue
		}
		sub, name, _ := strings.Cut(k.name, ".")
		if sub != last {
			header(b, append(slices.Clone(path), sub))
			last = sub
		}
		assign(b, name, v)
	}
}

func renderMap[V any](b *bytes.Buffer, path []string, name string, m map[string]V) {
	header(b, append(slices.Clone(path), strings.Split(name, ".")...))
	for _, key := range sortedKeys(m) {
		assign(b, key, m[key])
	}
}

func header(b *bytes.Buffer, path []string) {
	if b.Len() > 0 {
		b.WriteByte('\n')
	}
	parts := make([]string, len(path))
	for i, p := range path {
		parts[i] = tomlKey(p)
	}
	fmt.Fprintf(b, "[%s]\n", strings.Join(parts, "."))
}

func assign(b *bytes.Buffer, name string, v any) {
	fmt.Fprintf(b, "%s = %s\n", tomlKey(name), literal(v))
}

// literal writes a value that a key's get has returned as TOML.
func literal(v any) string {
	switch v := v.(type) {
	case string:
		return tomlText(v)
	case []string:
		parts := make([]string, len(v))
		for i, s := range v {
			parts[i] = tomlText(s)
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	default:
		return fmt.Sprint(v)
	}
}

// tomlText writes a basic string: the only escapes that TOML shares with everybody are
// those of four and eight hex digits.
func tomlText(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, "\\u%04X", r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func tomlKey(name string) string {
	if bareKey(name) {
		return name
	}
	return tomlText(name)
}
