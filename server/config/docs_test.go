package config

import (
	"bytes"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/tenement-fleet/tenement/api"
)

// TestDocs holds the tables of docs/configuration.md to the tables of this package;
// -update writes them anew.
func TestDocs(t *testing.T) {
	const path = "../../docs/configuration.md"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got := text
	for name, section := range map[string]string{
		"settings": settingsTable(t, settingKeys), "cluster": settingsTable(t, clusterKeys), "service": serviceTable(), "routing": routingTable(),
	} {
		marks := regexp.MustCompile(`(?s)(<!-- table: ` + name + ` -->\n).*?(<!-- end -->)`)
		if n := len(marks.FindAllIndex(got, -1)); n != 1 {
			t.Fatalf("%s: %d sections %q, want 1", path, n, name)
		}
		got = marks.ReplaceAllFunc(got, func(b []byte) []byte {
			m := marks.FindSubmatch(b)
			return bytes.Join([][]byte{m[1], m[2]}, []byte("\n"+section+"\n"))
		})
	}
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(got, text) {
		t.Errorf("%s is not what the keys say; go test ./server/config -update writes it", path)
	}
}

func row(b *strings.Builder, cells ...string) {
	for i := range cells {
		cells[i] = strings.ReplaceAll(cells[i], "|", `\|`)
	}
	b.WriteString("| " + strings.Join(cells, " | ") + " |\n")
}

func head(b *strings.Builder, titles ...string) {
	row(b, titles...)
	b.WriteString("|" + strings.Repeat(" --- |", len(titles)) + "\n")
}

func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}

func settingsTable(t *testing.T, keys []key[Config]) string {
	one := 1
	flags := Flags{Port: &one, BootstrapExpect: &one, PeerPort: &one, GossipPort: &one, Join: []string{"x"}, TLSPort: &one, TLSNames: []string{"x"}}
	for v, i := reflect.ValueOf(&flags).Elem(), 0; i < v.NumField(); i++ {
		switch f := v.Field(i); f.Kind() {
		case reflect.String:
			f.SetString("x")
		case reflect.Bool:
			f.SetBool(true)
		case reflect.Pointer, reflect.Slice: // set above
		default:
			t.Fatalf("flag of kind %s", f.Kind())
		}
	}
	texts := flags.texts()
	if len(texts) != reflect.TypeFor[Flags]().NumField() {
		t.Fatalf("%d of the flags have a setting", len(texts))
	}
	var b strings.Builder
	head(&b, "key", "default", "meaning", "allowed", "variable", "flag")
	c := newLoader(Options{Root: true}).cfg
	for _, k := range keys {
		def := code(shownDefault(k.get(c)))
		if k.name == "data_dir" {
			def += ", see below"
		}
		row(&b, code(k.name), def, k.doc, k.want, code(variable(k.name)), code(texts[k.name].flag))
	}
	return b.String()
}

func serviceTable() string {
	s := api.Service{SpawnOnRequest: true}
	s.SetDefaults()
	var b strings.Builder
	head(&b, "key", "default", "meaning", "allowed")
	for _, k := range serviceKeys {
		def := code(shownDefault(k.get(&s)))
		if k.name == "command" {
			def = "required"
		}
		row(&b, code(k.name), def, k.doc, k.want)
	}
	return b.String()
}

func routingTable() string {
	var b strings.Builder
	head(&b, "key", "meaning", "allowed")
	for _, k := range routingKeys {
		row(&b, code(k.name), k.doc, k.want)
	}
	return b.String()
}

// shownDefault is a default as it would stand in the file; "" for none.
func shownDefault(v any) string {
	if s := fmt.Sprint(v); v == nil || s == "[]" {
		return ""
	}
	return literal(v)
}
