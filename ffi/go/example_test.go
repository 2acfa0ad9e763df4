package pilot_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"

	"pilot"
)

// A web server that only approved peers reach.
func ExampleNode_Listen() {
	node, err := pilot.Start(pilot.Config{Home: "/var/lib/my-agent", Hostname: "worker-node"})
	if err != nil {
		log.Fatal(err)
	}
	listener, err := node.Listen(8080)
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.Serve(listener, nil))
}

// A client of that server, through the daemon.
func ExampleNode_DialContext() {
	node, err := pilot.Attach("")
	if err != nil {
		log.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DialContext: node.DialContext}}
	response, err := client.Get("http://worker-node:8080/")
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	fmt.Println(string(body), err)
}

// A stream.
func ExampleNode_Dial() {
	node, err := pilot.Attach("")
	if err != nil {
		log.Fatal(err)
	}
	conn, err := node.Dial(context.Background(), "worker-node:1000")
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintln(conn, `{"action":"execute_query"}`)
	conn.CloseWrite()
	answer, err := io.ReadAll(conn)
	fmt.Println(string(answer), err)
}
