package pilot

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"
)

// Every request is written as the node's own table has it, which the node's tests keep in testdata.
func TestRequestsAreThoseOfTheNode(t *testing.T) {
	no, yes, hostname, empty, public, tenSeconds := false, true, "a", "", false, uint64(10_000)
	const node = "worker-node"
	requests := []Request{
		InfoRequest{},
		VersionRequest{},
		PeersRequest{},
		PathRequest{node},
		ConnectionsRequest{},
		PendingRequest{},
		TrustRequest{},
		ReceivedRequest{},
		StopRequest{},
		FindRequest{node},
		SearchRequest{"gpu"},
		HandshakeRequest{Node: node},
		HandshakeRequest{node, "demo", "all", 60, "memory=64MB,streams=9"},
		TakeBackRequest{node},
		ApproveRequest{Node: node, Ports: "1000,1001", ExpiresS: 60},
		ApproveRequest{Node: node, Quota: "memory=64MB,streams=1000"},
		RejectRequest{Node: node},
		RejectRequest{node, "no"},
		GrantRequest{Node: node, Ports: "messages,80,8000-8010"},
		GrantRequest{Node: node, Ports: "all", ExpiresS: 86400},
		GrantRequest{Node: node, Quota: "disk=1GB,messages=10000/day"},
		RevokeRequest{node, "80"},
		UntrustRequest{node},
		WaitTrustRequest{node, 200},
		InviteRequest{"messages", 60, 3, &no, &yes},
		InvitesRequest{},
		UninviteRequest{"0badcafe"},
		JoinRequest{"pilot:qq", "echo", 200},
		GroupsRequest{},
		GroupMembersRequest{"fleet"},
		GroupInviteRequest{"fleet", 60, 3, &no, &yes, &yes},
		GroupRequest{"allow", "fleet", "a", "echo", "admin"},
		GroupExportRequest{"fleet"},
		GroupImportRequest{"fleet", "00ff"},
		ProfileRequest{Hostname: &empty},
		ProfileRequest{&hostname, &public, []string{"x", "y"}},
		SendMessageRequest{node, "json", &no, 10_000},
		OutboxRequest{},
		OutboxRequest{20},
		InboxRequest{},
		InboxRequest{Limit: 20, Before: 7},
		InboxReadRequest{7},
		InboxNextRequest{After: 7},
		InboxTakeRequest{},
		InboxTakeRequest{[]uint64{1, 2}},
		InboxTakeRequest{[]uint64{}},
		AskRequest{Node: node},
		AskRequest{node, "json", &tenSeconds, 60},
		ReplyRequest{"7", "json"},
		WaitAnswerRequest{"07", 10_000},
		AnswersRequest{},
		AnswersRequest{20},
		FailQuestionRequest{7, "no"},
		InboxRequest{Only: "failed"},
		InboxNextRequest{Only: "questions"},
		PublishRequest{"a.b"},
		SendDatagramRequest{Node: node, Port: 5353},
		SendDatagramRequest{node, 5353, 65535},
		DisconnectRequest{1<<64 - 1},
		SetWebhookRequest{},
		SetWebhookRequest{"http://a/", true, "0123456789abcdef"},
		ForwardRequest{Node: node, Port: 22, Listen: "2222"},
		ForwardRequest{node, 22, "unix:/run/x", true},
		ForwardsRequest{},
		UnforwardRequest{"2222"},
		ExposeRequest{Port: 80, Target: "8080"},
		ExposeRequest{80, "8080", true, true, false, []string{node}, true},
		ExposesRequest{},
		UnexposeRequest{80},
		ProxyRequest{Listen: "1080"},
		ProxyRequest{"0.0.0.0:1080", true, "/etc/users", true},
		ProxiesRequest{},
		UnproxyRequest{"1080"},
		WhoisRequest{"127.0.0.1:40000"},
	}
	known, err := os.ReadFile("testdata/requests.json")
	if err != nil {
		t.Fatal(err)
	}
	var table []json.RawMessage
	if err := json.Unmarshal(known, &table); err != nil {
		t.Fatal(err)
	}
	if len(table) != len(requests) {
		t.Fatalf("the node knows %d requests, this package %d", len(table), len(requests))
	}
	for i, request := range requests {
		made, err := encode(request)
		if err != nil || !bytes.Equal(made, table[i]) {
			t.Errorf("%s became %s (%v)", table[i], made, err)
		}
	}
}
