package httpapi

import (
	"bytes"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/tenement-fleet/tenement/api"
)

// TestDocs holds the tables of docs/api.md to the code; -update writes them anew.
func TestDocs(t *testing.T) {
	const path = "../../docs/api.md"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got := text
	for name, section := range map[string]string{"endpoints": endpointTable(), "parameters": paramTable(), "errors": errorTable()} {
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
		t.Errorf("%s is not what the code says; go test ./server/httpapi -update writes it", path)
	}
}

func docRow(b *strings.Builder, cells ...string) {
	b.WriteString("| " + strings.Join(cells, " | ") + " |\n")
}

func docHead(b *strings.Builder, titles ...string) {
	docRow(b, titles...)
	b.WriteString("|" + strings.Repeat(" --- |", len(titles)) + "\n")
}

func endpointTable() string {
	var b strings.Builder
	docHead(&b, "method and path", "access", "what it does", "body", "answer", "parameters")
	for _, e := range table(false) {
		var params []string
		for _, p := range e.params {
			params = append(params, "`"+p.name+"`")
		}
		answer := typeText(e.resp)
		switch {
		case e.media == mediaSSE:
			answer = "events, each " + answer
		case answer == "" && e.media != "":
			answer = e.media
		case answer == "":
			answer = "nothing"
		}
		body := typeText(e.req) + e.takes
		if e.bodyOptional {
			body += ", optional"
		}
		docRow(&b, "`"+e.method+" "+e.path+"`", e.access.String(), e.about, body, answer, strings.Join(params, " "))
	}
	return b.String()
}

// typeText names a type of the API.
func typeText(t reflect.Type) string {
	if t == nil {
		return ""
	}
	if l, ok := reflect.Zero(t).Interface().(lister); ok {
		return "list of " + typeText(l.elem())
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t.Name()
}

// paramTable tells about each parameter once.
func paramTable() string {
	var b strings.Builder
	docHead(&b, "parameter", "meaning")
	type said struct{ name, about string }
	seen := map[said]bool{}
	for _, e := range table(false) {
		for _, p := range e.params {
			if k := (said{p.name, p.about}); seen[k] {
				continue
			} else {
				seen[k] = true
			}
			name := "`" + p.name + "`"
			if p.in == inHeader {
				name += " (header)"
			}
			docRow(&b, name, p.about)
		}
	}
	return b.String()
}

func errorTable() string {
	var b strings.Builder
	docHead(&b, "status", "code", "means")
	for _, c := range []struct {
		code  api.Code
		means string
	}{
		{api.CodeInvalid, "the input breaks a rule; `fields` says which"},
		{api.CodeUnauthenticated, "no token, or one that is not valid"},
		{api.CodeForbidden, "the token may not do this"},
		{api.CodeNotFound, "no such object, or not yours to see"},
		{api.CodeNotAllowed, "the path exists, the method does not"},
		{api.CodeConflict, "the object's state forbids it: a limit, or it belongs to the file"},
		{api.CodeStaleRevision, "`If-Match` does not name the current revision"},
		{api.CodeTooLarge, "the body is over 1 MiB"},
		{api.CodeTooManyRequests, "ten failed attempts within a minute from this address"},
		{api.CodeInternal, "a bug or a broken disk; the server's log has more"},
		{api.CodeFailed, "the instance could not be started"},
		{api.CodeUnavailable, "not now: no leader, starting, shutting down, too many streams"},
		{api.CodeDiskFull, "too little space in the data directory to write"},
		{api.CodeTimeout, "a bounded wait ran out"},
	} {
		if titles[c.code] == "" {
			panic("no such code: " + c.code)
		}
		docRow(&b, uintText(uint64(c.code.Status())), "`"+string(c.code)+"`", c.means)
	}
	return b.String()
}
