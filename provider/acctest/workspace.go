package acctest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/tenement-fleet/tenement/provider"
	"github.com/tenement-fleet/tenement/server/config"
)

// Dir is a directory with a configuration, on which the terraform command is run with the
// provider as a process of its own.
type Dir struct {
	Path string
	Env  []string
	t    testing.TB
}

// A test's own binary is the provider too, when Terraform starts it, and a node that can be
// killed: there is nothing to be built. It has to be known before flags are parsed and tests
// are run.
func init() {
	if text := os.Getenv(envServe); text != "" {
		os.Exit(serve(text))
	}
	if provider.Started(os.Args, os.Getenv) {
		os.Exit(provider.Main(runVersion(), config.Parse))
	}
}

// Workspace returns a directory with the provider in place. Only configurations without
// providers from elsewhere need terraform init.
func Workspace(t *testing.T, path string) *Dir {
	t.Helper()
	Need(t)
	bin := t.TempDir()
	self, err := os.Executable()
	if err == nil {
		err = os.Symlink(self, filepath.Join(bin, "terraform-provider-ten"))
	}
	if err != nil {
		t.Fatal(err)
	}
	d := &Dir{Path: path, t: t}
	rc := filepath.Join(path, "terraform.rc")
	d.Write("terraform.rc", fmt.Sprintf("provider_installation {\n  dev_overrides {\n    \"tenement/ten\" = %q\n  }\n  direct {}\n}\n", bin))
	d.Env = append(os.Environ(), "TF_CLI_CONFIG_FILE="+rc, "TF_IN_AUTOMATION=1", "CHECKPOINT_DISABLE=1", "TF_REATTACH_PROVIDERS=")
	return d
}

// Write writes a file of the configuration.
func (d *Dir) Write(name, text string) {
	d.t.Helper()
	if err := os.WriteFile(filepath.Join(d.Path, name), []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

// Took is what a run of terraform cost: time, and CPU of it and its providers.
type Took struct{ Wall, CPU time.Duration }

// String implements fmt.Stringer.
func (t Took) String() string {
	return fmt.Sprintf("%s (CPU %s)", t.Wall.Round(time.Millisecond), t.CPU.Round(time.Millisecond))
}

// Run runs terraform, and fails the test if that fails.
func (d *Dir) Run(args ...string) Took {
	d.t.Helper()
	start := time.Now()
	cmd := d.command(context.Background(), args...)
	if out, err := cmd.CombinedOutput(); err != nil {
		d.t.Fatalf("terraform %s: %v\n%s", args[0], err, tail(string(out)))
	}
	return Took{Wall: time.Since(start), CPU: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()}
}

// Try runs terraform and returns all that it printed. The end of the context is Ctrl-C.
func (d *Dir) Try(ctx context.Context, args ...string) (string, error) {
	out, err := d.command(ctx, args...).CombinedOutput()
	return string(out), err
}

func (d *Dir) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Getenv("TF_ACC_TERRAFORM_PATH"), append([]string{"-chdir=" + d.Path}, append(args, "-no-color")...)...) //nolint:gosec // the terraform on PATH //nolint:gosec // the terraform that the harness found
	cmd.Env, cmd.Cancel, cmd.WaitDelay = d.Env, func() error { return cmd.Process.Signal(os.Interrupt) }, time.Minute
	return cmd
}

func tail(s string) string {
	if len(s) > 3000 {
		return "…" + s[len(s)-3000:]
	}
	return s
}
