// A peer of the gateway for bench/: grpc-gateway v2 in front of the same services, nothing added.
// Its generated code is made by bench/peers/setup.sh.
package main

import (
	"context"
	"flag"
	"log"
	"net/http"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"example.invalid/grpc-gateway-peer/benchpb"
	"example.invalid/grpc-gateway-peer/counterpb"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:10001", "address for HTTP/1.1 and h2c")
	backend := flag.String("backend", "127.0.0.1:50051", "address of the counter service")
	fixed := flag.String("fixed", "127.0.0.1:10004", "address of the backend with fixed answers")
	flag.Parse()

	mux := runtime.NewServeMux()
	options := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
	if err := counterpb.RegisterCounterServiceHandlerFromEndpoint(context.Background(), mux, *backend, options); err != nil {
		log.Fatal(err)
	}
	if err := benchpb.RegisterBenchHandlerFromEndpoint(context.Background(), mux, *fixed, options); err != nil {
		log.Fatal(err)
	}

	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := http.Server{Addr: *listen, Handler: mux, Protocols: &protocols}
	log.Fatal(server.ListenAndServe())
}
