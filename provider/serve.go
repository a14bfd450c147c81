package provider

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/providerserver"

	"github.com/tenement-fleet/tenement/provider/functions"
)

// Address is the provider's name in the registry that every fleet is.
const Address = "registry.terraform.io/tenement/ten"

// Terraform starts every provider with this variable and value in its environment.
const (
	cookieName  = "TF_PLUGIN_MAGIC_COOKIE"
	cookieValue = "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2"
)

// Started reports whether a program with these arguments and this environment was started
// to be the provider: by its name, terraform-provider-ten…, or by Terraform.
func Started(args []string, getenv func(string) string) bool {
	if getenv(cookieName) == cookieValue {
		return true
	}
	return len(args) > 0 && strings.HasPrefix(filepath.Base(args[0]), "terraform-provider-ten")
}

// Main is the life of a provider's process, which ends with Terraform's: it returns the
// exit code. Flags are for developers: -debug serves a provider that Terraform attaches to.
func Main(version string, parse functions.ParseFile) int {
	quiet(os.Getenv, os.Setenv)
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(moreGarbage)
	}
	flags := flag.NewFlagSet("terraform-provider-ten", flag.ContinueOnError)
	debugged := flags.Bool("debug", false, "serve for a debugger, and print what to set in Terraform's environment")
	if flags.Parse(os.Args[1:]) != nil {
		return 2
	}
	err := providerserver.Serve(context.Background(), func() provider.Provider { return &Provider{Version: version, ParseFile: parse} }, providerserver.ServeOpts{
		Address: Address, Debug: *debugged, ProtocolVersion: 6,
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, "terraform-provider-ten:", err)
		return 1
	}
	return 0
}

// moreGarbage is how much more than what is in use a provider lets pile up, in percent. It
// lives for seconds and makes a lot: a fourth less CPU for some 80 MB.
const moreGarbage = 400

// quiet keeps the framework from telling its every step: it does unless it is told not to,
// and Terraform reads all of it only to drop it when nobody asked for a log: a fifth of the
// CPU of a plan.
func quiet(getenv func(string) string, setenv func(name, value string) error) {
	steps := []string{"TF_LOG_SDK", "TF_LOG_SDK_PROTO", "TF_LOG_SDK_FRAMEWORK"}
	for _, name := range append([]string{"TF_LOG", "TF_LOG_PROVIDER"}, steps...) {
		if getenv(name) != "" {
			return
		}
	}
	for _, name := range steps {
		_ = setenv(name, "OFF") // at worst it is slower
	}
}
