package pilot

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A plain HTTP client reaches a plain HTTP server through two nodes, and what is set up ends when it is closed.
func TestForwardAndExpose(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "hello "+r.Header.Get("Pilot-Peer"))
	}))
	defer server.Close()
	port := freePort()
	exposed, err := b.Expose(port, strings.TrimPrefix(server.URL, "http://"), ExposeOptions{HTTP: true, Nodes: []string{"go-a"}})
	if err != nil {
		t.Fatal(err)
	}
	defer exposed.Close()
	forward, err := a.Forward("127.0.0.1:0", "go-b", port)
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + forward.Listen())
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if text, err := io.ReadAll(response.Body); err != nil || string(text) != "hello go-a" {
		t.Errorf("%q, %v", text, err)
	}
	var conflict *Error
	if _, err := b.Expose(port, "1", ExposeOptions{}); !errors.As(err, &conflict) || conflict.Code != Conflict {
		t.Errorf("%v", err)
	}
	if err := forward.Close(); err != nil || forward.Close() != nil {
		t.Error(err)
	}
	// The daemon's side ends soon after.
	for i := 0; ; i++ {
		c, err := net.Dial("tcp", forward.Listen())
		if err != nil {
			break
		}
		c.Close()
		if i == 100000 {
			t.Fatal("the listener is still there")
		}
	}
}
