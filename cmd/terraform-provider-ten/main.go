// Command terraform-provider-ten is the Terraform provider alone, for systems that the
// server does not run on. On servers the command ten is the provider too.
package main

import (
	"os"

	"github.com/tenement-fleet/tenement/provider"
	"github.com/tenement-fleet/tenement/server/config"
)

// version is set by the linker.
var version = "dev"

func main() { os.Exit(provider.Main(version, config.Parse)) }
