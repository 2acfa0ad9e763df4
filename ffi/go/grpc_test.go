package pilot

import (
	"context"
	"fmt"
	"io"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// echoService is a service without generated code: one unary method, and one that streams both ways.
var echoService = grpc.ServiceDesc{
	ServiceName: "pilot.Echo",
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{
		MethodName: "Once",
		Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			in := new(wrapperspb.StringValue)
			if err := decode(in); err != nil {
				return nil, err
			}
			return wrapperspb.String("once " + in.Value), nil
		},
	}},
	Streams: []grpc.StreamDesc{{
		StreamName:    "Many",
		ServerStreams: true,
		ClientStreams: true,
		Handler: func(_ any, stream grpc.ServerStream) error {
			for {
				in := new(wrapperspb.StringValue)
				if err := stream.RecvMsg(in); err == io.EOF {
					return nil
				} else if err != nil {
					return err
				}
				if err := stream.SendMsg(wrapperspb.String("many " + in.Value)); err != nil {
					return err
				}
			}
		},
	}},
}

func TestGRPC(t *testing.T) {
	l, addr := listen(t)
	server := grpc.NewServer()
	server.RegisterService(&echoService, nil)
	go server.Serve(l)
	defer server.Stop()

	// The tunnel is encrypted and authenticates the peer, so TLS inside it would add nothing.
	client, err := grpc.NewClient("passthrough:///"+addr,
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return a.Dial(ctx, addr) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	out := new(wrapperspb.StringValue)
	if err := client.Invoke(t.Context(), "/pilot.Echo/Once", wrapperspb.String("hello"), out); err != nil || out.Value != "once hello" {
		t.Fatal(err, out.Value)
	}
	stream, err := client.NewStream(t.Context(), &echoService.Streams[0], "/pilot.Echo/Many")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		if err := stream.SendMsg(wrapperspb.String(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
		if err := stream.RecvMsg(out); err != nil || out.Value != fmt.Sprintf("many %d", i) {
			t.Fatal(err, out.Value)
		}
	}
	stream.CloseSend()
	if err := stream.RecvMsg(out); err != io.EOF {
		t.Fatal(err)
	}
}
