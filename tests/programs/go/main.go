// grpc-go without generated code: `serve PORT`, or `KIND HOST:PORT`, the kinds being the calls of the laboratory's rows, or
// `load HOST:PORT SECONDS CLIENTS LENGTH`, which prints unary calls a second, for `pilot-bench programs`.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
)

const large = 32 << 20

// plain is the codec of messages that are bytes.
type plain struct{}

func (plain) Marshal(v any) ([]byte, error)      { return *v.(*[]byte), nil }
func (plain) Unmarshal(data []byte, v any) error { *v.(*[]byte) = bytes.Clone(data); return nil }
func (plain) Name() string                       { return "plain" }

var service = grpc.ServiceDesc{
	ServiceName: "pilot.Lab",
	HandlerType: (*any)(nil),
	Methods:     []grpc.MethodDesc{method("Once", 0), method("Slow", 5*time.Second)},
	Streams: []grpc.StreamDesc{
		{StreamName: "Up", ClientStreams: true, Handler: up},
		{StreamName: "Down", ServerStreams: true, Handler: down},
		{StreamName: "Both", ClientStreams: true, ServerStreams: true, Handler: both},
	},
}

// method answers with its request, after a while.
func method(name string, after time.Duration) grpc.MethodDesc {
	return grpc.MethodDesc{MethodName: name, Handler: func(_ any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
		in := new([]byte)
		if err := decode(in); err != nil {
			return nil, err
		}
		select {
		case <-time.After(after):
			return in, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}}
}

func up(_ any, stream grpc.ServerStream) error {
	sum := 0
	for {
		in := new([]byte)
		if err := stream.RecvMsg(in); err == io.EOF {
			answer := []byte(strconv.Itoa(sum))
			return stream.SendMsg(&answer)
		} else if err != nil {
			return err
		}
		sum += len(*in)
	}
}

func down(_ any, stream grpc.ServerStream) error {
	in := new([]byte)
	if err := stream.RecvMsg(in); err != nil {
		return err
	}
	count, err := strconv.Atoi(string(*in))
	for i := 0; i < count && err == nil; i++ {
		answer := []byte(strconv.Itoa(i))
		err = stream.SendMsg(&answer)
	}
	return err
}

func both(_ any, stream grpc.ServerStream) error {
	for {
		in := new([]byte)
		if err := stream.RecvMsg(in); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := stream.SendMsg(in); err != nil {
			return err
		}
	}
}

func serve(port string) error {
	l, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		return err
	}
	server := grpc.NewServer(grpc.ForceServerCodec(plain{}), grpc.MaxRecvMsgSize(large), grpc.MaxSendMsgSize(large),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}))
	server.RegisterService(&service, nil)
	return server.Serve(l)
}

var kinds = map[string]func(context.Context, *grpc.ClientConn) error{
	"unary": unary, "streams": streams, "large": largeMessage, "deadline": deadline, "keepalive": idle,
}

func main() {
	switch {
	case len(os.Args) == 3 && os.Args[1] == "serve":
		log.Fatal(serve(os.Args[2]))
	case len(os.Args) == 6 && os.Args[1] == "load":
		if err := load(os.Args[2], os.Args[3], os.Args[4], os.Args[5]); err != nil {
			log.Fatal(err)
		}
		return
	case len(os.Args) != 3 || kinds[os.Args[1]] == nil:
		log.Fatal("serve PORT, KIND HOST:PORT, or load HOST:PORT SECONDS CLIENTS LENGTH")
	}
	client, err := dial(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Second)
	defer cancel()
	if err := kinds[os.Args[1]](ctx, client); err != nil {
		log.Fatal(err)
	}
}

func dial(to string) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///"+to, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(plain{}), grpc.MaxCallRecvMsgSize(large), grpc.MaxCallSendMsgSize(large)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second, PermitWithoutStream: true}))
}

// load lets clients with a connection each make one call after the other.
func load(to, seconds, clients, length string) error {
	span, err := strconv.ParseFloat(seconds, 64)
	if err != nil {
		return err
	}
	count, err := strconv.Atoi(clients)
	if err != nil {
		return err
	}
	size, err := strconv.Atoi(length)
	if err != nil {
		return err
	}
	message, calls, failures := random(size), make([]int, count), make(chan error, count)
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Second)
	defer cancel()
	connections := make([]*grpc.ClientConn, count)
	for i := range connections {
		if connections[i], err = dial(to); err != nil {
			return err
		}
		if err := once(ctx, connections[i], message); err != nil {
			return err
		}
	}
	begin := time.Now()
	end := begin.Add(time.Duration(span * float64(time.Second)))
	var group sync.WaitGroup
	for i := range count {
		group.Go(func() {
			for time.Now().Before(end) {
				if err := once(ctx, connections[i], message); err != nil {
					failures <- err
					return
				}
				calls[i]++
			}
		})
	}
	group.Wait()
	close(failures)
	for err := range failures {
		return err
	}
	sum := 0
	for _, n := range calls {
		sum += n
	}
	fmt.Println(float64(sum) / time.Since(begin).Seconds())
	return nil
}

func once(ctx context.Context, client *grpc.ClientConn, message []byte) error {
	out := new([]byte)
	if err := client.Invoke(ctx, "/pilot.Lab/Once", &message, out); err != nil {
		return err
	}
	if !bytes.Equal(*out, message) {
		return fmt.Errorf("%d bytes came back for %d", len(*out), len(message))
	}
	return nil
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func unary(ctx context.Context, client *grpc.ClientConn) error {
	var group sync.WaitGroup
	failures := make(chan error, 500)
	for i := range 500 {
		group.Go(func() { failures <- once(ctx, client, random(i*10)) })
	}
	group.Wait()
	close(failures)
	for err := range failures {
		if err != nil {
			return err
		}
	}
	return nil
}

func streams(ctx context.Context, client *grpc.ClientConn) error {
	stream, err := client.NewStream(ctx, &service.Streams[0], "/pilot.Lab/Up")
	if err != nil {
		return err
	}
	message, out := random(1000), new([]byte)
	for range 1000 {
		if err := stream.SendMsg(&message); err != nil {
			return err
		}
	}
	stream.CloseSend()
	if err := stream.RecvMsg(out); err != nil || string(*out) != "1000000" {
		return fmt.Errorf("up: %v %s", err, *out)
	}
	if stream, err = client.NewStream(ctx, &service.Streams[1], "/pilot.Lab/Down"); err != nil {
		return err
	}
	count := []byte("1000")
	if err := stream.SendMsg(&count); err != nil {
		return err
	}
	stream.CloseSend()
	for i := range 1000 {
		if err := stream.RecvMsg(out); err != nil || string(*out) != strconv.Itoa(i) {
			return fmt.Errorf("down %d: %v %s", i, err, *out)
		}
	}
	if stream, err = client.NewStream(ctx, &service.Streams[2], "/pilot.Lab/Both"); err != nil {
		return err
	}
	for range 300 {
		message := random(10_000)
		if err := stream.SendMsg(&message); err != nil {
			return err
		}
		if err := stream.RecvMsg(out); err != nil || !bytes.Equal(*out, message) {
			return fmt.Errorf("both: %v", err)
		}
	}
	stream.CloseSend()
	if err := stream.RecvMsg(out); err != io.EOF {
		return fmt.Errorf("both: %v at the end", err)
	}
	return nil
}

func largeMessage(ctx context.Context, client *grpc.ClientConn) error {
	return once(ctx, client, random(16<<20))
}

func deadline(ctx context.Context, client *grpc.ClientConn) error {
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	begin, message := time.Now(), []byte{}
	err := client.Invoke(short, "/pilot.Lab/Slow", &message, new([]byte))
	if status.Code(err) != codes.DeadlineExceeded || time.Since(begin) > 3*time.Second {
		return errors.Join(errors.New("no deadline"), err)
	}
	return once(ctx, client, []byte("after"))
}

// idle lets the connection rest for longer than the keepalive's interval.
func idle(ctx context.Context, client *grpc.ClientConn) error {
	if err := once(ctx, client, []byte("before")); err != nil {
		return err
	}
	time.Sleep(12 * time.Second)
	return once(ctx, client, []byte("after"))
}
