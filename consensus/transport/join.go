package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/tenement-fleet/tenement/api"
	"github.com/tenement-fleet/tenement/consensus/secret"
)

const (
	joinPath    = "/join"
	joinName    = "join.tenement"
	joinTimeout = 15 * time.Second // of one address; redeeming a ticket is a write of the cluster
	maxJoinBody = 4 << 10
)

// joinRequest is what one who has a ticket sends, joinAnswer what he gets for it.
type joinRequest struct {
	ID     string `json:"id"`
	Secret string `json:"secret"`
}

type joinAnswer struct {
	Secrets []string `json:"secrets"` // the primary first
}

func (t *Transport) newJoinServer() *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	s := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !t.handlers.enter() {
				writeProblem(w, api.Errorf(api.CodeUnavailable, "this node is shutting down"))
				return
			}
			defer t.handlers.leave()
			t.cfg.JoinHandler.ServeHTTP(w, r)
		}),
		Protocols:      protocols,
		ReadTimeout:    5 * time.Second,
		WriteTimeout:   joinTimeout,
		MaxHeaderBytes: 4 << 10,
		ErrorLog:       slog.NewLogLogger(t.cfg.Logger.Handler(), slog.LevelDebug),
		BaseContext:    func(net.Listener) context.Context { return t.requests },
	}
	s.SetKeepAlivesEnabled(false)
	return s
}

// JoinHandler returns a handler for [Config.JoinHandler]: it gives the secrets of k to
// those whose ticket redeem accepts. Redeem gets the ticket's id and hash, which it must
// compare in constant time; it counts the use, and its *api.Error is told to the joiner.
func JoinHandler(k *secret.Keyring, redeem func(ctx context.Context, id string, hash [32]byte) error) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+joinPath, func(w http.ResponseWriter, r *http.Request) {
		var in joinRequest
		if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxJoinBody)).Decode(&in); err != nil {
			writeProblem(w, api.Errorf(api.CodeInvalid, "the request is malformed"))
			return
		}
		ticket, err := secret.ParseTicket(in.ID, in.Secret)
		if err != nil {
			writeProblem(w, api.Errorf(api.CodeUnauthenticated, "the join token is malformed"))
			return
		}
		if err := redeem(r.Context(), ticket.ID(), ticket.Hash()); err != nil {
			writeProblem(w, err)
			return
		}
		var out joinAnswer
		for _, s := range k.Secrets() {
			out.Secrets = append(out.Secrets, s.Reveal())
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_ = json.NewEncoder(w).Encode(out) // the joiner may have gone
	})
	return mux
}

// FetchSecrets returns the secrets, the primary first, that a join token leads to: the
// one in it, or those that a node of the cluster gives for its ticket. That node proves
// by the CA in the token that it is one, before it is shown the ticket.
func FetchSecrets(ctx context.Context, token secret.JoinToken) ([]secret.Secret, error) {
	if !token.Secret.IsZero() {
		return []secret.Secret{token.Secret}, nil
	}
	if token.Ticket.IsZero() || len(token.CA) < hintSize || len(token.Addresses) == 0 {
		return nil, errors.New("fetch cluster secret: the join token is empty")
	}
	var errs []error
	for _, address := range token.Addresses {
		secrets, err := fetchFrom(ctx, address, token)
		if err == nil {
			return secrets, nil
		}
		errs = append(errs, fmt.Errorf("ask %s: %w", address, err))
		if _, refused := errors.AsType[*api.Error](err); refused && api.CodeOf(err) != api.CodeUnavailable {
			break // the others would say the same
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, fmt.Errorf("fetch cluster secret: %w", errors.Join(errs...))
}

func fetchFrom(ctx context.Context, address string, token secret.JoinToken) ([]secret.Secret, error) {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	body, err := json.Marshal(joinRequest{ID: token.Ticket.ID(), Secret: token.Ticket.Reveal()})
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+joinName+joinPath, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	dialer := tls.Dialer{NetDialer: &net.Dialer{Timeout: 5 * time.Second}, Config: pinned(token.CA)}
	client := &http.Transport{
		DialTLSContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, address)
		},
		DisableKeepAlives: true,
	}
	resp, err := client.RoundTrip(request)
	if err != nil {
		return nil, explain(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxJoinBody))
	if err != nil {
		return nil, explain(err)
	}
	if resp.StatusCode != http.StatusOK {
		var p api.Problem
		if err := json.Unmarshal(b, &p); err != nil || p.Code == "" {
			return nil, fmt.Errorf("it answered %s", resp.Status)
		}
		return nil, p.Err()
	}
	return readAnswer(b, token.CA)
}

// readAnswer checks that what came is what was asked for.
func readAnswer(b []byte, fingerprint string) ([]secret.Secret, error) {
	var answer joinAnswer
	if err := json.Unmarshal(b, &answer); err != nil {
		return nil, errors.New("its answer is malformed")
	}
	var secrets []secret.Secret
	for _, text := range answer.Secrets {
		s, err := secret.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("its answer: %w", err)
		}
		secrets = append(secrets, s)
	}
	k, err := secret.NewKeyring(secrets...)
	if err != nil {
		return nil, fmt.Errorf("its answer: %w", err)
	}
	for _, ca := range k.CAs() {
		if ca.Fingerprint() == fingerprint {
			return secrets, nil
		}
	}
	return nil, errors.New("its answer holds no secret of the CA that the join token names")
}

// errPin says that whoever answers has not the CA of the token.
var errPin = errors.New("it is not of the cluster that the join token is for: its CA has another fingerprint")

// pinned returns terms by which a server must belong to the CA with the fingerprint, and
// show that CA, which the joiner has never seen.
func pinned(fingerprint string) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		ServerName:         serverName(joinName, fingerprint),
		NextProtos:         []string{protoJoin},
		InsecureSkipVerify: true, //nolint:gosec // verified below: by fingerprint, as no root is known
		VerifyConnection: func(state tls.ConnectionState) error {
			for _, ca := range state.PeerCertificates[1:] {
				if secret.Fingerprint(ca) != fingerprint {
					continue
				}
				roots := x509.NewCertPool()
				roots.AddCert(ca)
				_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots})
				return err
			}
			return errPin
		},
	}
}

// explain says in plain words why an address could not be asked.
func explain(err error) error {
	invalid, bad := errors.AsType[x509.CertificateInvalidError](err)
	switch {
	case errors.Is(err, errPin):
		return errPin
	case bad && invalid.Reason == x509.Expired:
		return fmt.Errorf("its certificate is not valid now: the clock of this machine or of that one is wrong: %w", err)
	}
	switch KindOf(err) {
	case ErrRefused:
		return fmt.Errorf("nothing that lets nodes join listens there: %w", err)
	case ErrTimeout, ErrUnreachable:
		return fmt.Errorf("it does not answer: %w", err)
	case ErrCertificate:
		return fmt.Errorf("it takes no join tokens, or is no peer port: %w", err)
	}
	return err
}
