// Package service is the resource and the data source ten_service.
package service

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/hashicorp/terraform-plugin-framework-validators/int64validator"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/booldefault"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/int64default"
	"github.com/hashicorp/terraform-plugin-framework/resource/schema/stringdefault"
	"github.com/hashicorp/terraform-plugin-framework/schema/validator"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/api/client"
	"github.com/tenement-fleet/tenement/provider/internal/managed"
	"github.com/tenement-fleet/tenement/provider/internal/placement"
	"github.com/tenement-fleet/tenement/provider/internal/units"
)

// New returns the resource.
func New() resource.Resource { return managed.New(kind()) }

// kind is made once: Terraform's every call begins with New.
var kind = sync.OnceValue(func() *managed.Kind[Model, api.Service, *Model] {
	return &managed.Kind[Model, api.Service, *Model]{
		Type: "service", Title: "service", Schema: resourceSchema(),
		Identity: []managed.IdentityAttribute{{Name: "name", About: "The service's name."}},
		ParseKey: func(id string) (managed.Key, error) {
			if !api.ValidName(id) {
				return nil, &api.FieldError{Field: "name", Got: id, Want: "the name of a service"}
			}
			return managed.Key{id}, nil
		},
		KeyOf: func(s *api.Service) managed.Key { return managed.Key{s.Name} },
		Get: func(ctx context.Context, c *client.Client, k managed.Key) (*api.Service, error) {
			return c.Service(ctx, k[0])
		},
		Put: func(ctx context.Context, c *client.Client, s *api.Service, ifMatch *uint64) (*api.Service, error) {
			return c.PutService(ctx, s, ifMatch)
		},
		Delete: func(ctx context.Context, c *client.Client, s *api.Service, ifMatch *uint64) error {
			return c.DeleteService(ctx, s.Name, ifMatch)
		},
		Validate: (*api.Service).Validate,
		Revision: func(s *api.Service) uint64 { return s.Revision },
		Same:     same,
		Claim: func(s *api.Service) error {
			if s.Source == api.SourceFile {
				return api.Errorf(api.CodeConflict, "it is declared in the tenement.toml of a server: take it out there first")
			}
			return nil
		},
		InUse: inUse, Secrets: secrets, Check: check, Plan: plan,
	}
})

// same compares what users write, whoever did, as far as the API tells.
func same(a, b *api.Service) bool {
	x, y := *a.Redacted(), *b.Redacted()
	x.Source, y.Source, x.SourceNode, y.SourceNode = "", "", "", ""
	return x.Equal(&y)
}

// inUse refuses to remove a service with its instances, which the API would do: somebody
// has declared them. Those that requests have made belong to the service.
func inUse(ctx context.Context, c *client.Client, s *api.Service) error {
	instances, err := c.Instances(ctx, client.InstanceQuery{Service: s.Name})
	if err != nil {
		return err
	}
	fleets, err := c.Fleets(ctx, s.Name)
	if err != nil {
		return err
	}
	var left []string
	for _, f := range fleets {
		left = append(left, "fleet "+f.Ref().String())
	}
	for _, i := range instances {
		if i.Source != api.SourceRequest && i.Fleet == "" {
			left = append(left, "instance "+i.Ref().String())
		}
	}
	const few = 5
	switch n := len(left); {
	case n == 0:
		return nil
	case n > few:
		left = append(left[:few], fmt.Sprintf("%d more", n-few))
	}
	return api.Errorf(api.CodeConflict, "it still has %s, which would go with it. Destroy them first; those of this configuration go first by "+
		"themselves where they say service = ten_service.NAME.name. What Terraform does not manage, `ten stop %s:ID --purge` removes",
		strings.Join(left, ", "), s.Name)
}

func optional(about string) schema.StringAttribute {
	return schema.StringAttribute{Optional: true, MarkdownDescription: about}
}

func choice[T ~string](about string, byDefault T, all []T) schema.StringAttribute {
	names := make([]string, len(all))
	for i, v := range all {
		names[i] = "`" + string(v) + "`"
	}
	return schema.StringAttribute{
		Optional: true, Computed: true, Default: stringdefault.StaticString(string(byDefault)),
		MarkdownDescription: fmt.Sprintf("%s One of %s; default `%s`.", about, strings.Join(names, ", "), byDefault),
	}
}

func number(about string, byDefault int, rules ...validator.Int64) schema.Int64Attribute {
	return schema.Int64Attribute{
		Optional: true, Computed: true, Default: int64default.StaticInt64(int64(byDefault)), Validators: rules,
		MarkdownDescription: fmt.Sprintf("%s Default `%d`.", about, byDefault),
	}
}

func amount(about string) schema.Int64Attribute {
	return schema.Int64Attribute{Optional: true, MarkdownDescription: about}
}

func duration(about string, byDefault api.Duration) schema.StringAttribute {
	return units.Attribute(units.DurationType, about, byDefault.String())
}

func size(about string) schema.StringAttribute { return units.Attribute(units.SizeType, about, "") }

func yesNo(about string, byDefault bool) schema.BoolAttribute {
	return schema.BoolAttribute{
		Optional: true, Computed: true, Default: booldefault.StaticBool(byDefault),
		MarkdownDescription: fmt.Sprintf("%s Default `%t`.", about, byDefault),
	}
}

const (
	placeholders = " May hold the placeholders `{name}`, `{id}`, `{data_dir}`, `{port}` and `{socket}`."
	microVM      = ", for the levels `firecracker` and `qemu`, which no node offers yet."
)

func resourceSchema() schema.Schema {
	all := attributes()
	all["timeouts"] = managed.TimeoutsAttribute()
	return schema.Schema{
		MarkdownDescription: "A service: the template that instances and fleets are copies of. Destroying one that still has declared instances or fleets is refused.",
		Attributes:          all,
	}
}

// attributes returns those that say what a service is.
func attributes() map[string]schema.Attribute {
	d := defaults()
	all := map[string]schema.Attribute{
		"name":    managed.NameAttribute("The service's name: 1 to 63 of `a-z 0-9 _ -`. Another name is another service."),
		"command": schema.StringAttribute{Required: true, MarkdownDescription: "The program: a name looked up in PATH, or a path. Without `args` it is split as a shell splits words." + placeholders},
		"args":    schema.ListAttribute{Optional: true, ElementType: types.StringType, MarkdownDescription: "The program's arguments." + placeholders},
		"workdir": optional("The directory that the program is started in." + placeholders),
		"env": schema.MapAttribute{
			Optional: true, ElementType: types.StringType,
			MarkdownDescription: "The program's environment. It is kept in the state: what is secret belongs into `env_wo`." + placeholders,
		},
		"env_wo": schema.MapAttribute{
			Optional: true, Sensitive: true, WriteOnly: true, ElementType: types.StringType,
			MarkdownDescription: "More of the program's environment, which Terraform keeps neither in the state nor in the plan. Write-only: needs Terraform 1.11. " +
				"Values are written when the service is created, when a name is new, and when `env_wo_version` changes; the cluster tells them to the programs only. " +
				"Left out, the service keeps the secret variables that it has; `{}` removes them.",
		},
		"env_wo_version": schema.Int64Attribute{Optional: true, MarkdownDescription: "Change it to have the values of `env_wo` written again."},
		"secret_env": schema.ListAttribute{
			Computed: true, ElementType: types.StringType,
			MarkdownDescription: "The names of the service's secret variables: those of `env_wo`, or what it has where that is left out. Their values are nowhere in Terraform.",
		},
		"socket":    optional("The unix socket on which the program listens instead of PORT." + placeholders),
		"health":    optional("The HTTP path whose 200 means healthy. Without one, accepting connections does."),
		"isolation": choice("How strongly instances are set apart; `ten doctor` tells what works on a server.", d.Isolation, api.Isolations()),
		"restart":   choice("When a program that ended is started again.", d.Restart, api.RestartPolicies()),
		"max_restarts": number("How many restarts within `restart_window` are allowed; one more and the instance is failed. -1 allows none.",
			d.MaxRestarts, int64validator.NoneOf(0)),
		"cpu_shares":       amount("The share of CPU, 1 to 10000; 1024 counts as one CPU when a node is chosen. Not enforced yet."),
		"storage_persist":  yesNo("Whether an instance's data stays when it is stopped or removed; falling asleep never removes any.", true),
		"kernel":           optional("The kernel's path" + microVM),
		"rootfs":           optional("The root filesystem's path" + microVM),
		"vcpus":            amount("Its CPUs" + microVM),
		"vsock_port":       amount("The vsock port that the program listens on" + microVM),
		"spawn_on_request": yesNo("Whether a request for an unknown id creates that instance.", false),
		"max_instances":    number("How many instances it may have.", d.MaxInstances),
		"placement":        placement.Attribute("Which nodes may run its instances, and which do so best. Left out: any node, spread over nodes."),
		"on_disconnect": choice("What becomes of an instance on a node that is cut off: started elsewhere, kept where it is, or stopped before it is started elsewhere.",
			api.DisconnectReplace, api.OnDisconnects()),
	}
	times(all, d)
	return all
}

// times adds the durations and sizes.
func times(all map[string]schema.Attribute, d *api.Service) {
	all["health_interval"] = duration("The time between two health checks.", d.HealthInterval)
	all["idle_timeout"] = duration("An instance without an open request for that long is put to sleep; `0s`: never.", d.IdleTimeout)
	all["startup_timeout"] = duration("How long a start may take.", d.StartupTimeout)
	all["request_timeout"] = duration("How long the first byte of an answer may take.", d.RequestTimeout)
	all["stop_timeout"] = duration("The grace between SIGTERM and SIGKILL.", d.StopTimeout)
	all["restart_window"] = duration("The window of `max_restarts`.", d.RestartWindow)
	all["backoff_base"] = duration("The wait before the first restart; it doubles.", d.BackoffBase)
	all["backoff_max"] = duration("The longest wait before a restart.", d.BackoffMax)
	all["memory_limit"] = size("The memory that an instance may use, such as `512MiB`: it counts when a node is chosen, and is not enforced yet. Left out: no limit.")
	all["storage_quota"] = size("How large an instance's data may become: it counts when a node is chosen, and is told, not enforced yet. Left out: no limit.")
	all["memory"] = size("Its memory" + microVM)
}
