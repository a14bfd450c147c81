package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"

	"github.com/spf13/cobra"

	"github.com/tenement-fleet/tenement/api/client"
)

// authority is what `ten cluster ca --json` prints.
type authority struct {
	PEM string `json:"pem"`
	// Fingerprints are the SHA-256 of the certificates, in their order.
	Fingerprints []string `json:"fingerprints"`
}

func (a *app) caCommand() *cobra.Command {
	return &cobra.Command{
		Use: "ca", Short: "Print the certificate to trust on the cluster's TLS ports",
		Long: `Prints the certificate of the cluster's CA, which signs those of the TLS ports
('ten serve --tls-port'). It is no secret. While the cluster's secret is replaced there
are two: trust both, and fetch it anew afterwards.`,
		Example: "  ten cluster ca > ten-ca.pem\n  SSL_CERT_FILE=$PWD/ten-ca.pem terraform init",
		Args:    between(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var text []byte
			err := a.call(cmd.Context(), "asking for the certificate", answerTime, func(ctx context.Context, c *client.Client) (err error) {
				text, err = c.CA(ctx)
				return err
			})
			if err != nil {
				return err
			}
			out := authority{PEM: string(text), Fingerprints: []string{}}
			for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
				sum := sha256.Sum256(block.Bytes)
				out.Fingerprints = append(out.Fingerprints, hex.EncodeToString(sum[:]))
			}
			switch {
			case len(out.Fingerprints) == 0:
				return errors.New("ask for the certificate: the server answers with something else")
			case a.json:
				return a.printJSON(out)
			default:
				return a.printf("%s", text)
			}
		},
	}
}
