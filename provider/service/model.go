package service

import (
	"context"
	"maps"
	"slices"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/provider/internal/managed"
	"github.com/tenement-fleet/tenement/provider/internal/placement"
	"github.com/tenement-fleet/tenement/provider/internal/units"
)

// Spec is what a service says, in Terraform's types; see api.Service.
type Spec struct {
	Name           types.String `tfsdk:"name"`
	Command        types.String `tfsdk:"command"`
	Args           types.List   `tfsdk:"args"`
	Workdir        types.String `tfsdk:"workdir"`
	Env            types.Map    `tfsdk:"env"`
	SecretEnv      types.List   `tfsdk:"secret_env"`
	Socket         types.String `tfsdk:"socket"`
	Health         types.String `tfsdk:"health"`
	HealthInterval units.Value  `tfsdk:"health_interval"`
	Isolation      types.String `tfsdk:"isolation"`
	IdleTimeout    units.Value  `tfsdk:"idle_timeout"`
	StartupTimeout units.Value  `tfsdk:"startup_timeout"`
	RequestTimeout units.Value  `tfsdk:"request_timeout"`
	StopTimeout    units.Value  `tfsdk:"stop_timeout"`
	Restart        types.String `tfsdk:"restart"`
	MaxRestarts    types.Int64  `tfsdk:"max_restarts"`
	RestartWindow  units.Value  `tfsdk:"restart_window"`
	BackoffBase    units.Value  `tfsdk:"backoff_base"`
	BackoffMax     units.Value  `tfsdk:"backoff_max"`
	MemoryLimit    units.Value  `tfsdk:"memory_limit"`
	CPUShares      types.Int64  `tfsdk:"cpu_shares"`
	StorageQuota   units.Value  `tfsdk:"storage_quota"`
	StoragePersist types.Bool   `tfsdk:"storage_persist"`
	Kernel         types.String `tfsdk:"kernel"`
	Rootfs         types.String `tfsdk:"rootfs"`
	Memory         units.Value  `tfsdk:"memory"`
	VCPUs          types.Int64  `tfsdk:"vcpus"`
	VsockPort      types.Int64  `tfsdk:"vsock_port"`
	SpawnOnRequest types.Bool   `tfsdk:"spawn_on_request"`
	MaxInstances   types.Int64  `tfsdk:"max_instances"`
	Placement      types.Object `tfsdk:"placement"`
	OnDisconnect   types.String `tfsdk:"on_disconnect"`
}

// Model is a ten_service.
type Model struct {
	Spec
	EnvWO        types.Map      `tfsdk:"env_wo"`
	EnvWOVersion types.Int64    `tfsdk:"env_wo_version"`
	Timeouts     timeouts.Value `tfsdk:"timeouts"`
}

// Options implements managed.Model.
func (m *Model) Options() managed.Options { return managed.Options{Timeouts: m.Timeouts} }

// defaults is what the API fills in.
func defaults() *api.Service {
	s := &api.Service{Args: []string{}}
	s.SetDefaults()
	return s
}

// Expand implements managed.Model. Of secret variables the names are in it, not the values.
func (m *Spec) Expand(ctx context.Context) (*api.Service, diag.Diagnostics) {
	d := defaults()
	rules, diags := placement.Expand(ctx, m.Placement)
	persist := m.StoragePersist.IsNull() || m.StoragePersist.IsUnknown() || m.StoragePersist.ValueBool()
	s := &api.Service{
		Name: m.Name.ValueString(), Command: m.Command.ValueString(), Args: managed.Texts(m.Args),
		Workdir: m.Workdir.ValueString(), Env: managed.Map(m.Env), SecretEnv: managed.Texts(m.SecretEnv), Socket: m.Socket.ValueString(),
		Health: m.Health.ValueString(), HealthInterval: m.HealthInterval.Duration(d.HealthInterval),
		Isolation:   managed.TextOr(m.Isolation, d.Isolation),
		IdleTimeout: m.IdleTimeout.Duration(0), StartupTimeout: m.StartupTimeout.Duration(d.StartupTimeout),
		RequestTimeout: m.RequestTimeout.Duration(d.RequestTimeout), StopTimeout: m.StopTimeout.Duration(d.StopTimeout),
		Restart: managed.TextOr(m.Restart, d.Restart), MaxRestarts: managed.IntOr(m.MaxRestarts, d.MaxRestarts),
		RestartWindow: m.RestartWindow.Duration(d.RestartWindow),
		BackoffBase:   m.BackoffBase.Duration(d.BackoffBase), BackoffMax: m.BackoffMax.Duration(d.BackoffMax),
		MemoryLimit: m.MemoryLimit.Size(), CPUShares: managed.IntOr(m.CPUShares, 0),
		StorageQuota: m.StorageQuota.Size(), StoragePersist: &persist,
		Kernel: m.Kernel.ValueString(), Rootfs: m.Rootfs.ValueString(), Memory: m.Memory.Size(),
		VCPUs: managed.IntOr(m.VCPUs, 0), VsockPort: managed.IntOr(m.VsockPort, 0),
		SpawnOnRequest: m.SpawnOnRequest.ValueBool(), MaxInstances: managed.IntOr(m.MaxInstances, d.MaxInstances),
		Placement: rules, OnDisconnect: managed.TextOr(m.OnDisconnect, api.OnDisconnect("")),
		Source: api.SourceAPI,
	}
	canonical(s)
	return s, diags
}

// canonical brings into the API's form what several forms mean the same.
func canonical(s *api.Service) {
	if s.Args == nil {
		if words, err := api.SplitWords(s.Command); err == nil && len(words) > 0 {
			s.Command, s.Args = words[0], words[1:]
		}
	}
	if s.Placement.IsZero() {
		s.Placement = nil
	}
	if s.OnDisconnect == api.DisconnectReplace {
		s.OnDisconnect = ""
	}
}

// Flatten implements managed.Model.
func (m *Spec) Flatten(ctx context.Context, s *api.Service) diag.Diagnostics {
	m.flattenProgram(s)
	m.HealthInterval = units.FromDuration(m.HealthInterval, s.HealthInterval)
	m.IdleTimeout = units.FromDuration(m.IdleTimeout, s.IdleTimeout)
	m.StartupTimeout = units.FromDuration(m.StartupTimeout, s.StartupTimeout)
	m.RequestTimeout = units.FromDuration(m.RequestTimeout, s.RequestTimeout)
	m.StopTimeout = units.FromDuration(m.StopTimeout, s.StopTimeout)
	m.Restart = types.StringValue(string(s.Restart))
	m.MaxRestarts = types.Int64Value(int64(s.MaxRestarts))
	m.RestartWindow = units.FromDuration(m.RestartWindow, s.RestartWindow)
	m.BackoffBase = units.FromDuration(m.BackoffBase, s.BackoffBase)
	m.BackoffMax = units.FromDuration(m.BackoffMax, s.BackoffMax)
	m.MemoryLimit = units.FromSize(m.MemoryLimit, s.MemoryLimit)
	m.CPUShares = managed.Int(m.CPUShares, s.CPUShares)
	m.StorageQuota = units.FromSize(m.StorageQuota, s.StorageQuota)
	m.StoragePersist = types.BoolValue(s.Persist())
	m.Kernel = managed.Text(m.Kernel, s.Kernel)
	m.Rootfs = managed.Text(m.Rootfs, s.Rootfs)
	m.Memory = units.FromSize(m.Memory, s.Memory)
	m.VCPUs = managed.Int(m.VCPUs, s.VCPUs)
	m.VsockPort = managed.Int(m.VsockPort, s.VsockPort)
	m.SpawnOnRequest = types.BoolValue(s.SpawnOnRequest)
	m.MaxInstances = types.Int64Value(int64(s.MaxInstances))
	m.OnDisconnect = types.StringValue(string(s.Disconnect()))
	var diags diag.Diagnostics
	m.Placement, diags = placement.Flatten(ctx, m.Placement, s.Placement)
	return diags
}

// flattenProgram leaves command and args as they are while they mean the same program:
// who writes one line gets one line back.
func (m *Spec) flattenProgram(s *api.Service) {
	was := api.Service{Command: m.Command.ValueString(), Args: managed.Texts(m.Args)}
	canonical(&was)
	is := api.Service{Command: s.Command, Args: s.Args}
	canonical(&is)
	if was.Command != is.Command || !slices.Equal(was.Args, is.Args) || m.Command.IsNull() {
		m.Command, m.Args = types.StringValue(s.Command), managed.TextList(m.Args, s.Args)
	}
	if m.Args.IsNull() || m.Args.IsUnknown() {
		m.Args = types.ListNull(types.StringType)
	}
	m.Name = types.StringValue(s.Name)
	m.Workdir = managed.Text(m.Workdir, s.Workdir)
	m.flattenEnv(s)
	m.Socket = managed.Text(m.Socket, s.Socket)
	m.Health = managed.Text(m.Health, s.Health)
	m.Isolation = types.StringValue(string(s.Isolation))
}

// flattenEnv keeps secrets out of the state: also one that somebody has made plain, while
// it is secret here. The next plan will say so.
func (m *Spec) flattenEnv(s *api.Service) {
	plain := maps.Clone(s.Redacted().Env)
	for _, name := range managed.Texts(m.SecretEnv) {
		delete(plain, name)
	}
	m.Env = managed.TextMap(m.Env, plain)
	m.SecretEnv = managed.TextList(m.SecretEnv, s.SecretEnv)
}
