package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/tenement-fleet/tenement/api"
)

// textCodec carries plain strings, so that no generated code is needed.
type textCodec struct{}

func (textCodec) Marshal(v any) ([]byte, error)      { return []byte(*v.(*string)), nil }
func (textCodec) Unmarshal(data []byte, v any) error { *v.(*string) = string(data); return nil }
func (textCodec) Name() string                       { return "text" }

// talker is the service: what a call does is in its method's name.
func talker(stream grpc.ServerStream, method string) error {
	md, _ := metadata.FromIncomingContext(stream.Context())
	var in string
	switch method {
	case "/t.Talk/Unary":
		if err := stream.RecvMsg(&in); err != nil {
			return err
		}
		_ = stream.SetHeader(metadata.Pairs("x-header", strings.Join(md.Get("x-request-id"), "")))
		stream.SetTrailer(metadata.Pairs("x-trailer", "end"))
		out := fmt.Sprintf("%s %q", in, md.Get("authorization"))
		return stream.SendMsg(&out)
	case "/t.Talk/Fail": // trailers only: an error with no message before it
		return status.Error(codes.FailedPrecondition, "not like this: ü%")
	case "/t.Talk/Count":
		for i := range 5 {
			out := fmt.Sprint(i)
			if err := stream.SendMsg(&out); err != nil {
				return err
			}
		}
		return status.Error(codes.DataLoss, "after five")
	case "/t.Talk/Echo":
		for {
			if err := stream.RecvMsg(&in); err != nil {
				if errors.Is(err, io.EOF) {
					return nil
				}
				return err
			}
			if err := stream.SendMsg(&in); err != nil {
				return err
			}
		}
	case "/t.Talk/Hang":
		<-stream.Context().Done()
		return stream.Context().Err()
	default:
		return status.Error(codes.Unimplemented, method)
	}
}

// grpcBackend starts the service on TCP or a unix socket.
func (g *rig) grpcBackend(network, addr string) api.Endpoint {
	ln, err := net.Listen(network, addr)
	if err != nil {
		g.t.Fatal(err)
	}
	srv := grpc.NewServer(grpc.ForceServerCodec(textCodec{}), grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		method, _ := grpc.MethodFromServerStream(stream)
		return talker(stream, method)
	}))
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(ln)
	}()
	g.t.Cleanup(func() {
		srv.Stop()
		<-done
	})
	return api.Endpoint{Network: network, Address: ln.Addr().String()}
}

func (g *rig) grpcClient(host string) *grpc.ClientConn {
	cc, err := grpc.NewClient("passthrough:///"+g.addr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithAuthority(host), grpc.WithDefaultCallOptions(grpc.ForceCodec(textCodec{})))
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { _ = cc.Close() })
	return cc
}

func TestGRPC(t *testing.T) {
	g := newRig(t)
	g.open("app:tcp", g.grpcBackend("tcp", "127.0.0.1:0"))
	g.open("app:unix", g.grpcBackend("unix", filepath.Join(t.TempDir(), "s")))
	for _, id := range []string{"tcp", "unix"} {
		t.Run(id, func(t *testing.T) {
			cc := g.grpcClient(id + ".app.localhost")
			t.Run("unary", func(t *testing.T) { unary(t, cc) })
			t.Run("trailers only", func(t *testing.T) {
				var out string
				in := "x"
				err := cc.Invoke(t.Context(), "/t.Talk/Fail", &in, &out)
				if s := status.Convert(err); s.Code() != codes.FailedPrecondition || s.Message() != "not like this: ü%" {
					t.Errorf("%v", err)
				}
			})
			t.Run("server stream", func(t *testing.T) { serverStream(t, cc) })
			t.Run("bidirectional", func(t *testing.T) { bidirectional(t, g, cc, id) })
		})
	}
}

func unary(t *testing.T, cc *grpc.ClientConn) {
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer abc", "x-request-id", "id-1", "x-forwarded-for", "6.6.6.6")
	in, out := strings.Repeat("long ", 20_000), ""
	var header, trailer metadata.MD
	if err := cc.Invoke(ctx, "/t.Talk/Unary", &in, &out, grpc.Header(&header), grpc.Trailer(&trailer)); err != nil {
		t.Fatal(err)
	}
	if out != in+` ["Bearer abc"]` {
		t.Errorf("%d bytes back", len(out))
	}
	if header.Get("x-header")[0] != "id-1" || trailer.Get("x-trailer")[0] != "end" {
		t.Errorf("header %v, trailer %v", header, trailer)
	}
}

func serverStream(t *testing.T, cc *grpc.ClientConn) {
	stream, err := cc.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, "/t.Talk/Count")
	if err != nil {
		t.Fatal(err)
	}
	in, out := "x", ""
	if err := stream.SendMsg(&in); err != nil {
		t.Fatal(err)
	}
	_ = stream.CloseSend()
	for i := range 5 {
		if err := stream.RecvMsg(&out); err != nil || out != fmt.Sprint(i) {
			t.Fatalf("message %d: %q, %v", i, out, err)
		}
	}
	if err := stream.RecvMsg(&out); status.Code(err) != codes.DataLoss {
		t.Errorf("at the end: %v", err)
	}
}

func bidirectional(t *testing.T, g *rig, cc *grpc.ClientConn, id string) {
	stream, err := cc.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/t.Talk/Echo")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		in, out := fmt.Sprint(i), ""
		if err := stream.SendMsg(&in); err != nil {
			t.Fatal(err)
		}
		if err := stream.RecvMsg(&out); err != nil || out != in {
			t.Fatalf("message %d: %q, %v", i, out, err)
		}
	}
	if n := g.router.InFlight(api.Ref{Service: "app", ID: id}); n != 1 {
		t.Errorf("%d in flight, an open stream counts", n)
	}
	_ = stream.CloseSend()
	var out string
	if err := stream.RecvMsg(&out); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
}

func TestGRPCFailures(t *testing.T) {
	g := newRig(t)
	g.service("app", func(s *api.Service) { s.RequestTimeout = api.Duration(100 * time.Millisecond) })
	g.open("app:a", g.grpcBackend("tcp", "127.0.0.1:0"))
	g.declare("app:broken", 100)
	g.open("app:dead", tcp("127.0.0.1:1"))
	for _, tc := range []struct {
		host, method string
		want         codes.Code
	}{
		{"a.app.localhost", "/t.Talk/Nothing", codes.Unimplemented},
		{"a.app.localhost", "/t.Talk/Hang", codes.DeadlineExceeded},
		{"broken.app.localhost", "/t.Talk/Unary", codes.Unavailable},
		{"dead.app.localhost", "/t.Talk/Unary", codes.Unavailable},
		{"nobody.localhost", "/t.Talk/Unary", codes.Unimplemented},
	} {
		in, out := "x", ""
		err := g.grpcClient(tc.host).Invoke(t.Context(), tc.method, &in, &out)
		if status.Code(err) != tc.want || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s %s: %v, want %v", tc.host, tc.method, err, tc.want)
		}
	}
}

func TestGRPCWakesItsInstance(t *testing.T) {
	g := newRig(t)
	g.declare("app:a", 100)
	ep := g.grpcBackend("tcp", "127.0.0.1:0")
	g.waker.set(func(_ context.Context, ref api.Ref) error { g.router.Open(ref, ep); return nil })
	in, out := "x", ""
	if err := g.grpcClient("a.app.localhost").Invoke(t.Context(), "/t.Talk/Unary", &in, &out); err != nil {
		t.Fatal(err)
	}
}

func TestHTTP2Client(t *testing.T) {
	g := newRig(t)
	g.serve("app:a", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.Header().Set(http.TrailerPrefix+"X-Late", "too")
		_, _ = fmt.Fprintf(w, "%s %s %s %s", r.Proto, r.Host, r.Header.Get("Cookie"), b)
	})
	tr := g.transport()
	tr.Protocols = new(http.Protocols)
	tr.Protocols.SetUnencryptedHTTP2(true)
	client := &http.Client{Transport: tr}
	r := g.request(http.MethodPost, "a.app.localhost/", strings.NewReader("in"))
	r.Header.Set("Cookie", "a=1; b=2")
	res, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.ProtoMajor != 2 || string(b) != "HTTP/1.1 a.app.localhost a=1; b=2 in" || res.Trailer.Get("X-Late") != "too" {
		t.Errorf("%s %q %v %v", res.Proto, b, res.Trailer, err)
	}
	for host, want := range map[string]int{"nobody.localhost": 404, "localhost": 200} {
		res, err := client.Do(g.request(http.MethodGet, host+"/", nil))
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != want {
			t.Errorf("%s: %d", host, res.StatusCode)
		}
	}
}
