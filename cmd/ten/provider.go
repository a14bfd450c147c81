package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tenement-fleet/tenement/server/registry"
)

// providerHost is where a source address without a host points to.
const providerHost = "registry.terraform.io"

// installed is what `ten provider install` prints.
type installed struct {
	File    string `json:"file"`
	Source  string `json:"source"`
	Version string `json:"version"`
	// Config is what Terraform's configuration file must hold; "" when it looks there by itself.
	Config string `json:"config,omitempty"`
}

func (a *app) providerCommand() *cobra.Command {
	return group(&cobra.Command{
		Use: "provider", Short: "Install the Terraform provider on this machine",
		Long: `The Terraform provider is this same binary. A cluster with a TLS port hands it out
itself; 'ten provider install' is for machines that reach none.`,
	}, a.providerInstallCommand())
}

func (a *app) providerInstallCommand() *cobra.Command {
	var dir, host string
	cmd := &cobra.Command{
		Use: "install", Short: "Put this binary where Terraform finds it as its provider",
		Long: `Writes this binary as a package into a file system mirror. Without --dir that is the
directory in which Terraform looks by itself; for another one it prints the lines for
Terraform's configuration file. A package that is there already is replaced.`,
		Example: "  ten provider install\n  ten provider install --dir /srv/terraform --host ten.example.com",
		Args:    between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if strings.ContainsAny(host, `/\ `) || host == "" || host == "." || host == ".." {
				return refused(cmd, fmt.Errorf("host %q is no host name", host))
			}
			implied := dir == ""
			if implied {
				var err error
				if dir, err = a.impliedMirror(); err != nil {
					return err
				}
			}
			dir, err := filepath.Abs(dir)
			if err != nil {
				return fmt.Errorf("find directory: %w", err)
			}
			out, err := installProvider(dir, host)
			if err != nil {
				return err
			}
			if !implied {
				out.Config = mirrorConfig(dir, out.Source)
			}
			if a.json {
				return a.printJSON(out)
			}
			return a.printInstalled(out)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "`directory` of the mirror (default: where Terraform looks by itself)")
	cmd.Flags().StringVar(&host, "host", providerHost, "`host` in the provider's source address")
	must(cmd.MarkFlagDirname("dir"))
	return cmd
}

// impliedMirror returns the directory in which Terraform looks without being told.
func (a *app) impliedMirror() (string, error) {
	if runtime.GOOS == "windows" {
		if data := a.getenv("APPDATA"); data != "" {
			return filepath.Join(data, "terraform.d", "plugins"), nil
		}
		return "", errors.New("find Terraform's directory: APPDATA is not set: name one with --dir")
	}
	if home := a.getenv("HOME"); home != "" {
		return filepath.Join(home, ".terraform.d", "plugins"), nil
	}
	return "", errors.New("find Terraform's directory: HOME is not set: name one with --dir")
}

// installProvider writes this program's package into a mirror. Under its name there is
// never a part of it.
func installProvider(dir, host string) (*installed, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find own program: %w", err)
	}
	program, err := os.Open(self)
	if err != nil {
		return nil, fmt.Errorf("read own program: %w", err)
	}
	defer program.Close() //nolint:errcheck // was only read
	out := &installed{Source: host + "/tenement/ten", Version: registry.Version(version)}
	if host == providerHost {
		out.Source = "tenement/ten"
	}
	place := filepath.Join(dir, host, "tenement", "ten")
	out.File = filepath.Join(place, registry.PackageName(out.Version, runtime.GOOS, runtime.GOARCH))
	if err := os.MkdirAll(place, 0o755); err != nil { //nolint:gosec // holds no secret, and others may use it
		return nil, fmt.Errorf("write package: %w", err)
	}
	if err := replaceWith(out.File, func(w io.Writer) error { return registry.Pack(w, program, out.Version, runtime.GOOS) }); err != nil {
		return nil, fmt.Errorf("write package: %w", err)
	}
	return out, nil
}

// replaceWith replaces a file by what write writes, all of it or not at all.
func replaceWith(path string, write func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "new-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	err = write(f)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Chmod(f.Name(), 0o644); err != nil { //nolint:gosec // as above
		return err
	}
	return os.Rename(f.Name(), path)
}

// mirrorConfig returns the lines that send Terraform to a mirror for this provider, and
// to where it went before for all others.
func mirrorConfig(dir, source string) string {
	return fmt.Sprintf(`provider_installation {
  filesystem_mirror {
    path    = %q
    include = [%q]
  }
  direct {
    exclude = [%[2]q]
  }
}
`, filepath.ToSlash(dir), source)
}

func (a *app) printInstalled(out *installed) error {
	if err := a.printf("wrote %s\n", out.File); err != nil {
		return err
	}
	if out.Config != "" {
		where := "~/.terraformrc"
		if runtime.GOOS == "windows" {
			where = `%APPDATA%\terraform.rc`
		}
		if err := a.printf("\nin %s:\n\n%s\n", where, out.Config); err != nil {
			return err
		}
	} else if err := a.printf("Terraform finds it there by itself\n\n"); err != nil {
		return err
	}
	return a.printf(`in your configuration:

terraform {
  required_providers {
    ten = {
      source  = %q
      version = %q
    }
  }
}
`, out.Source, out.Version)
}
