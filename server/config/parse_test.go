package config

import (
	"errors"
	"testing"

	"github.com/tenement-fleet/tenement/api"
)

const another = `
[settings]
max_restarts = 7

[service.web]
command = "./server --port {port}"
workdir = "site"
idle_timeout = 300
health = "/up"

[service.tool]
command = "nowhere-to-be-found"
isolation = "process"

[service.vm]
command = "init"
isolation = "firecracker"
kernel = "vmlinux"
rootfs = "/images/root"
memory_mb = 128

[instances]
web = ["blue", "green"]
`

// A file of another machine is read by the same rules, whatever is on this one.
func TestParse(t *testing.T) {
	services, instances, err := Parse([]byte(another), "/srv/app")
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]*api.Service{}
	for _, s := range services {
		byName[s.Name] = s
	}
	web, tool, vm := byName["web"], byName["tool"], byName["vm"]
	if web.Command != "/srv/app/server" || web.Workdir != "/srv/app/site" || web.MaxRestarts != 7 || web.IdleTimeout != api.Seconds(300) || len(web.Args) != 2 {
		t.Errorf("web: %+v", web)
	}
	if tool.Command != "nowhere-to-be-found" || tool.Workdir != "/srv/app" || vm.Kernel != "/srv/app/vmlinux" || vm.Rootfs != "/images/root" {
		t.Errorf("tool: %+v\nvm: %+v", tool, vm)
	}
	if len(instances) != 2 || instances[0].String() != "web:blue" {
		t.Errorf("instances %v", instances)
	}
	services, _, err = Parse([]byte(another), "")
	if err != nil || services[2].Command != "./server" || services[2].Workdir != "site" {
		t.Errorf("with no directory: %+v, %v", services[2], err)
	}
}

func TestParseProblems(t *testing.T) {
	for text, want := range map[string]string{
		"[service.web]\ncommand = \"x\"\nhelth = \"/\"": "tenement.toml:3: service.web.helth: got an unknown key",
		"[service.web]":              "tenement.toml:1: service.web: got no command",
		"service = [":                "tenement.toml:1: got array is incomplete",
		"[instances]\nweb = [\"a\"]": "tenement.toml:2: instances.web: got \"web\"",
	} {
		_, _, err := Parse([]byte(text), "")
		var problems Problems
		if !errors.As(err, &problems) || len(err.Error()) < len(want) || err.Error()[:len(want)] != want {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
	}
	if _, _, err := Parse([]byte("[service.web]\ncommand = \"x\""), "app"); err == nil {
		t.Error("took a relative directory")
	}
}
