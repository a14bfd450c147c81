package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
)

// maxCA bounds the certificates of the cluster's CA: there are two at most.
const maxCA = 1 << 20

// CA returns the certificates of the cluster's CA, as PEM: what a client has to trust to
// use the servers' TLS ports.
func (c *Client) CA(ctx context.Context) ([]byte, error) {
	resp, err := c.send(ctx, request{method: http.MethodGet, path: "/api/cluster/ca", again: true, accept: "application/x-pem-file"})
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	out, err := io.ReadAll(io.LimitReader(resp.Body, maxCA))
	if err != nil {
		return nil, fmt.Errorf("read certificates: %w", err)
	}
	return out, nil
}
