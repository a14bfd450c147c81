package config

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestPrecedence(t *testing.T) {
	port := 4
	const file = "[settings]\nport = 2\ndata_dir = \"d\"\ndomain = \"file.test\"\n"
	for _, tc := range []struct {
		name   string
		file   string
		env    []string
		flags  Flags
		port   int
		data   string
		domain string
	}{
		{"default", "", nil, Flags{}, 8080, "home/.local/share/tenement", "localhost"},
		{"file", file, nil, Flags{}, 2, "d", "file.test"},
		{
			"variable", file,
			[]string{"TENEMENT_PORT=3", "TENEMENT_DATA_DIR=e", "TENEMENT_DOMAIN=env.test"},
			Flags{},
			3, "e", "env.test",
		},
		{"empty variable", file, []string{"TENEMENT_PORT="}, Flags{}, 2, "d", "file.test"},
		{
			"flag", file,
			[]string{"TENEMENT_PORT=3", "TENEMENT_DATA_DIR=e"},
			Flags{Port: &port, DataDir: "f", Domain: "flag.test"},
			4, "f", "flag.test",
		},
		{"xdg", "", []string{"XDG_DATA_HOME=/xdg"}, Flags{}, 8080, "/xdg/tenement", "localhost"},
		{"relative xdg is ignored", "", []string{"XDG_DATA_HOME=xdg"}, Flags{}, 8080, "home/.local/share/tenement", "localhost"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := write(t, map[string]string{fileName: tc.file})
			o := options(dir, tc.env...)
			o.Flags = tc.flags
			c, err := Load(o)
			if err != nil {
				t.Fatal(err)
			}
			data := tc.data
			if !filepath.IsAbs(data) {
				data = filepath.Join(dir, data)
			}
			if c.Port != tc.port || c.DataDir != data || c.Domain != tc.domain {
				t.Errorf("got %d, %s, %s, want %d, %s, %s", c.Port, c.DataDir, c.Domain, tc.port, data, tc.domain)
			}
			if got, err := DataDir(o); err != nil || got != data {
				t.Errorf("DataDir: got %s, %v, want %s", got, err, data)
			}
		})
	}
}

// Every setting has a variable, which says the same as the file.
func TestEverySettingHasAVariable(t *testing.T) {
	values := map[string]string{
		"data_dir": "/state", "bind": "127.0.0.1", "domain": "env.test", "log_max_size": "5MiB",
		"tls.enabled": "false", "tls.acme_email": "x@y", "tls.domain": "y.test", "tls.staging": "true",
		"join": "10.0.0.1:1,10.0.0.2:2", "secret_file": "/s", "token_file": "/t", "bootstrap_expect": "1", "node_name": "n", "advertise": "h",
		"region": "r", "zone": "z", "provider": "p", "labels": "a=1,b=2", "memory_overcommit": "5", "cpu_overcommit": "6",
		"tls_names": "a.test,10.0.0.9",
	}
	shown := map[string]string{"join": `["10.0.0.1:1", "10.0.0.2:2"]`, "labels": "map[a:1 b:2]", "tls_names": `["a.test", "10.0.0.9"]`}
	for _, k := range ownKeys {
		text, ok := values[k.name]
		if !ok {
			text = "7777"
			if k.name == "gossip_port" {
				text = "7778"
			}
			if k.name == "tls_port" {
				text = "7779"
			}
		}
		if strings.HasSuffix(k.name, "max_restarts") {
			text = "77"
		}
		c, _ := load(t, "", variable(k.name)+"="+text)
		got := literal(k.get(c))
		if strings.Trim(got, `"`) != text && got != shown[k.name] {
			t.Errorf("%s=%s gives %s", variable(k.name), text, got)
		}
	}
}

func TestDataDirAlone(t *testing.T) {
	dir := write(t, map[string]string{fileName: "[settings]\ndata_dir = \"/d\"\nport = -1\n[service.a]\ncommand = \"nope\"\n"})
	if got, err := DataDir(options(dir)); got != "/d" || err != nil {
		t.Errorf("got %q, %v: other mistakes must not matter", got, err)
	}
	dir = write(t, map[string]string{fileName: "[settings]\ndata_dir = 5\n"})
	if _, err := DataDir(options(dir)); err == nil || !strings.Contains(err.Error(), "settings.data_dir: got 5") {
		t.Errorf("got %v", err)
	}
	root := options(t.TempDir())
	root.Root = true
	if got, err := DataDir(root); got != "/var/lib/tenement" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}
