package httpapi

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tenement-fleet/tenement/api"
)

// fakeProvider has version 1.2.3 in one file.
type fakeProvider struct{}

const fakeFile = "0123456789"

func (fakeProvider) Versions(context.Context) (api.RegistryVersions, error) {
	return api.RegistryVersions{Versions: []api.RegistryVersion{{
		Version: "1.2.3", Protocols: []string{"6.0"}, Platforms: []api.RegistryPlatform{{OS: "linux", Arch: "amd64"}},
	}}}, nil
}

func (fakeProvider) Package(_ context.Context, version, goos, goarch string) (api.RegistryPackage, error) {
	if version+goos+goarch != "1.2.3linuxamd64" {
		return api.RegistryPackage{}, api.Errorf(api.CodeNotFound, "no %s for %s on %s", version, goos, goarch)
	}
	return api.RegistryPackage{OS: goos, Arch: goarch}, nil
}

func (fakeProvider) MirrorVersions(context.Context) (api.MirrorVersions, error) {
	return api.MirrorVersions{Versions: map[string]api.MirrorVersion{"1.2.3": {}}}, nil
}

func (fakeProvider) MirrorArchives(_ context.Context, version string) (api.MirrorArchives, error) {
	if version != "1.2.3" {
		return api.MirrorArchives{}, api.Errorf(api.CodeNotFound, "no version %s", version)
	}
	return api.MirrorArchives{Archives: map[string]api.MirrorArchive{"linux_amd64": {URL: "/x", Hashes: []string{"h1:a"}}}}, nil
}

type fakeContent struct{ *strings.Reader }

func (fakeContent) Close() error { return nil }

func (fakeProvider) Open(_ context.Context, name string) (io.ReadSeekCloser, string, error) {
	if name != "a.zip" {
		return nil, "", api.Errorf(api.CodeNotFound, "no file %q", name)
	}
	return fakeContent{strings.NewReader(fakeFile)}, "tag", nil
}

// What Terraform is answered is what its protocols say, to the letter.
func TestProviderProtocols(t *testing.T) {
	f := newFixture(t)
	for _, tc := range []struct{ path, want string }{
		{"/.well-known/terraform.json", `{"providers.v1":"/terraform/providers/v1/"}`},
		{"/terraform/providers/v1/tenement/ten/versions", `{"versions":[{"version":"1.2.3","protocols":["6.0"],"platforms":[{"os":"linux","arch":"amd64"}]}]}`},
		{"/terraform/mirror/localhost:8443/tenement/ten/index.json", `{"versions":{"1.2.3":{}}}`},
		{"/terraform/mirror/registry.terraform.io/tenement/ten/1.2.3.json", `{"archives":{"linux_amd64":{"url":"/x","hashes":["h1:a"]}}}`},
	} {
		w := f.do(request("", "GET", tc.path, ""))
		if w.Code != 200 || w.Header().Get("Content-Type") != mediaJSON || strings.TrimSpace(w.Body.String()) != tc.want {
			t.Errorf("%s: got %d %s %s, want %s", tc.path, w.Code, w.Header().Get("Content-Type"), w.Body, tc.want)
		}
	}
}

// However a path is written, it names a file that there is, or none.
func TestProviderPathsThatLeadNowhere(t *testing.T) {
	f := newFixture(t)
	for _, path := range []string{
		"/terraform/files/", "/terraform/files/b.zip", "/terraform/files/..%2f..%2fapi_token", "/terraform/files/%2e%2e/%2e%2e/api_token",
		"/terraform/files/../../api_token", "/terraform/files//etc/passwd", "/terraform/files/%2fetc%2fpasswd", "/terraform/files/a.zip%00",
		"/terraform/files/a.zip/", "/terraform/files/sub/a.zip", "/terraform/files/%ff", "/terraform/files/A.ZIP", "/terraform/files/..",
		"/terraform/providers/v1/tenement/other/versions", "/terraform/providers/v1/other/ten/versions", "/terraform/providers/v1/",
		"/terraform/providers/v1/tenement/ten/..%2f1.2.3/download/linux/amd64", "/terraform/providers/v1/tenement/ten/1.2.3/download/linux/..%2famd64",
		"/terraform/mirror/h/tenement/ten/1.2.3", "/terraform/mirror/h/tenement/ten/..%2f1.2.3.json", "/terraform/mirror/h/tenement/ten/.json",
		"/terraform/mirror/h/x/ten/index.json", "/terraform", "/.well-known/terraform.json/x", "/.well-known/",
	} {
		r := httptest.NewRequest(http.MethodGet, path, nil)
		if w := f.do(r); w.Code != 404 || w.Header().Get("Content-Type") != api.ProblemType {
			t.Errorf("%s: got %d %s", path, w.Code, w.Body)
		}
	}
}

func TestProviderFile(t *testing.T) {
	f := newFixture(t)
	get := func(method string, headers ...string) *httptest.ResponseRecorder {
		r := request("", method, "/terraform/files/a.zip", "")
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		return f.do(r)
	}
	for _, tc := range []struct {
		name, method string
		headers      []string
		status       int
		body, length string
	}{
		{"whole", "GET", nil, 200, fakeFile, "10"},
		{"only the head", "HEAD", nil, 200, "", "10"},
		{"the same again", "GET", []string{"If-None-Match", `"tag"`}, 304, "", ""},
		{"its head again", "HEAD", []string{"If-None-Match", `W/"x", "tag"`}, 304, "", ""},
		{"another one", "GET", []string{"If-None-Match", `"old"`}, 200, fakeFile, "10"},
		{"the rest of it", "GET", []string{"Range", "bytes=7-", "If-Range", `"tag"`}, 206, "789", "3"},
		{"the rest of another one", "GET", []string{"Range", "bytes=7-", "If-Range", `"old"`}, 200, fakeFile, "10"},
		{"more than there is", "GET", []string{"Range", "bytes=70-"}, 416, "invalid range: failed to overlap\n", ""},
	} {
		w := get(tc.method, tc.headers...)
		if w.Code != tc.status || w.Body.String() != tc.body || w.Header().Get("Content-Length") != tc.length && tc.length != "" {
			t.Errorf("%s: got %d %q %v", tc.name, w.Code, w.Body, w.Header())
		}
		if w.Code < 400 && (w.Header().Get("ETag") != `"tag"` || w.Header().Get("Cache-Control") != "no-cache") {
			t.Errorf("%s: got %v", tc.name, w.Header())
		}
	}
	if w := get("POST"); w.Code != 405 {
		t.Errorf("POST: got %d", w.Code)
	}
}

func TestServerWithoutProvider(t *testing.T) {
	f := newFixture(t, func(c *Config) { c.Provider, c.CA = nil, nil })
	for path, want := range map[string]int{
		"/terraform/providers/v1/tenement/ten/versions": 404, "/terraform/providers/v1/tenement/ten/1.2.3/download/linux/amd64": 404,
		"/terraform/mirror/h/tenement/ten/index.json": 404, "/terraform/mirror/h/tenement/ten/1.2.3.json": 404,
		"/terraform/files/a.zip": 404, "/api/cluster/ca": 409,
	} {
		if w := f.do(request("", "GET", path, "")); w.Code != want {
			t.Errorf("%s: got %d %s, want %d", path, w.Code, w.Body, want)
		}
	}
}

func TestCA(t *testing.T) {
	w := newFixture(t).do(request("", "GET", "/api/cluster/ca", ""))
	if w.Code != 200 || w.Body.String() != "a certificate" || w.Header().Get("Content-Type") != mediaPEM {
		t.Errorf("got %d %s %v", w.Code, w.Body, w.Header())
	}
}
