package config

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/tenement-fleet/tenement/api"
)

const sampleHead = `# tenement.toml: what ten runs on this server. Relative paths start from this file's directory.
# ten config shows everything that is in force.

[settings]
`

const sampleService = `
# A service is a template; its instances are {id}.{service}.{domain}. A request for an id
# that does not exist yet creates that instance, and one for a sleeper wakes it. It falls
# asleep after idle_timeout seconds without a request.
`

const sampleEnv = `
# [service.%s.env]
# DATABASE = "{data_dir}/app.db"         # {name} {id} {data_dir} {port} {socket} are replaced

# Instances that start with the server.
[instances]
`

const sampleRouting = `
# The root domain, and further hosts and paths.
[routing]
# default = "%[1]s"
# subdomain = { www = "%[1]s" }
# path = { docs = "%[1]s" }
`

// Sample returns a commented tenement.toml with one service of that name, which runs
// the command. Without a command the service is commented out.
func Sample(name, command string) []byte {
	if !api.ValidName(name) || api.ReservedName(name) {
		name = "app"
	}
	s := sample{live: command != ""}
	if !s.live {
		command = "./server --port {port}"
	}
	s.b.WriteString(sampleHead)
	c := newLoader(Options{Root: true}).cfg
	for _, k := range settingKeys {
		if !strings.Contains(k.name, ".") {
			s.explain(k.name, k.doc, k.get(c))
		}
	}
	s.b.WriteString(sampleService)
	s.line("[service." + name + "]")
	s.line("command = " + tomlText(command))
	s.line("idle_timeout = 300")
	service := api.Service{SpawnOnRequest: true}
	service.SetDefaults()
	for _, k := range serviceKeys {
		if !inSample(k.name) {
			continue
		}
		doc := k.doc
		if strings.HasPrefix(k.want, "one of ") {
			doc += ": " + k.want
		}
		s.explain(k.name, doc, k.get(&service))
	}
	fmt.Fprintf(&s.b, sampleEnv, name)
	s.line(name + ` = ["one"]`)
	fmt.Fprintf(&s.b, sampleRouting, name)
	return s.b.Bytes()
}

// sample is a tenement.toml under way.
type sample struct {
	b    bytes.Buffer
	live bool // the service is not commented out
}

// line writes a line of the service.
func (s *sample) line(text string) {
	if !s.live {
		text = "# " + text
	}
	s.b.WriteString(text + "\n")
}

// explain writes a key at its default, commented out, with what it means.
func (s *sample) explain(name, doc string, v any) {
	if v == nil {
		v = ""
	}
	fmt.Fprintf(&s.b, "# %-34s # %s\n", name+" = "+literal(v), doc)
}

// inSample leaves out what the sample shows otherwise, and what needs an isolation
// level of its own.
func inSample(name string) bool {
	if strings.HasPrefix(name, "placement.") || name == "on_disconnect" {
		return false // for those who have several servers
	}
	switch name {
	case "command", "args", "env", "idle_timeout", "kernel", "rootfs", "memory_mb", "vcpus", "vsock_port":
		return false
	default:
		return true
	}
}
