package main

import "github.com/spf13/cobra"

const rootHelp = `ten runs many small single-tenant programs on a server: it declares, runs, routes
to, puts to sleep and wakes them.

'ten serve' is the server. The other commands talk to the one that --server names, else
through the local socket in the data directory if there is one, else to
http://127.0.0.1:8080.`

const environmentHelp = `The environment that ten reads. A flag wins over its variable.

  TENEMENT_SERVER    servers to talk to, separated by commas: http://host:port,
                     https://host:port or unix:///path/ten.sock
  TENEMENT_TOKEN     the token to present; without it {data_dir}/api_token is read,
                     which goes to servers on this machine only
  TENEMENT_DATA_DIR  the data directory of the server on this machine
  TENEMENT_CONFIG    the configuration file (tenement.toml)
  TENEMENT_PORT, TENEMENT_DOMAIN, TENEMENT_LOG_MAX_AGE …
                     every key of [settings], for 'ten serve' and 'ten config'
  NO_COLOR           if not empty: no colours`

// The groups of commands in the help.
const (
	groupInstances = "instances"
	groupServer    = "server"
	groupCluster   = "cluster"
	groupSetup     = "setup"
)

// newRoot builds the whole command tree.
func newRoot(a *app) *cobra.Command {
	root := group(&cobra.Command{
		Use: "ten", Short: "Run many small single-tenant programs on a server", Long: rootHelp,
		Version: version, SilenceErrors: true, SilenceUsage: true,
		PersistentPreRun: func(*cobra.Command, []string) { a.parsed = true },
	})
	root.SetUsageTemplate(usageTemplate)
	root.SetFlagErrorFunc(flagError)
	root.SetHelpCommand(helpCommand())
	root.SetVersionTemplate("ten {{.Version}}\n")
	flags := root.PersistentFlags()
	flags.StringSliceVar(&a.servers, "server", nil, "`URL` of the server, several for fail-over (TENEMENT_SERVER)")
	flags.StringVar(&a.token, "token", "", "`token` to present (TENEMENT_TOKEN)")
	flags.StringVar(&a.dataDir, "data-dir", "", "data `directory` of the server on this machine (TENEMENT_DATA_DIR)")
	flags.BoolVar(&a.json, "json", false, "print JSON")
	flags.BoolVar(&a.noColor, "no-color", false, "no colours (NO_COLOR)")

	root.AddGroup(
		&cobra.Group{ID: groupInstances, Title: "Instances:"},
		&cobra.Group{ID: groupServer, Title: "The server:"},
		&cobra.Group{ID: groupCluster, Title: "The cluster:"},
		&cobra.Group{ID: groupSetup, Title: "Setting up:"},
	)
	add := func(group string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = group
			root.AddCommand(c)
		}
	}
	add(groupInstances, a.spawnCommand(), a.stopCommand(), a.restartCommand(), a.psCommand(), a.healthCommand(),
		a.weightCommand(), a.deployCommand(), a.routeCommand(), a.logsCommand(), a.serviceCommand(), a.fleetCommand(), a.scaleCommand(), a.routesCommand())
	add(groupServer, a.serveCommand(), a.upgradeCommand(), a.tokenGenCommand(), a.tokenCommand(), a.eventsCommand())
	add(groupCluster, a.nodesCommand(), a.nodeCommand(), a.planCommand(), a.joinTokenCommand(), a.secretCommand(), a.clusterCommand())
	add(groupSetup, a.initCommand(), a.configCommand(), a.providerCommand(), a.doctorCommand(), a.versionCommand())
	root.AddCommand(
		&cobra.Command{Use: "exit-codes", Short: "The exit codes of ten", Long: exitCodesHelp},
		&cobra.Command{Use: "environment", Short: "The environment variables that ten reads", Long: environmentHelp},
	)
	root.SetCompletionCommandGroupID(groupSetup)
	root.SetHelpCommandGroupID(groupSetup)
	return root
}
