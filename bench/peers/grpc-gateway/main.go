// A peer of the gateway for bench/: grpc-gateway v2 in front of the same counter service, nothing added.
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

	"example.invalid/grpc-gateway-peer/counterpb"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:10001", "address for HTTP/1.1 and h2c")
	backend := flag.String("backend", "127.0.0.1:50051", "address of the counter service")
	flag.Parse()

	mux := runtime.NewServeMux()
	insecureCredentials := grpc.WithTransportCredentials(insecure.NewCredentials())
	err := counterpb.RegisterCounterServiceHandlerFromEndpoint(context.Background(), mux, *backend, []grpc.DialOption{insecureCredentials})
	if err != nil {
		log.Fatal(err)
	}

	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := http.Server{Addr: *listen, Handler: mux, Protocols: &protocols}
	log.Fatal(server.ListenAndServe())
}
