package pilot

import "encoding/json"

// Request is one request to a node: a value of one of the types of this file, which are those of the node. Node names a node
// by hostname, address, node number, key or fingerprint. A field with its zero value is absent, unless it says otherwise.
type Request interface {
	verb() string
}

// InfoRequest asks for the node's own state.
type InfoRequest struct{}

// VersionRequest asks for the version of the program.
type VersionRequest struct{}

// PeersRequest asks for the trusted peers with their tunnels and paths.
type PeersRequest struct{}

// PathRequest asks how a trusted peer is reached, why so, and when a direct path is tried next.
type PathRequest struct {
	Node string `json:"node"`
}

// ConnectionsRequest asks for the streams.
type ConnectionsRequest struct{}

// PendingRequest asks for the requests for trust that wait for a decision.
type PendingRequest struct{}

// TrustRequest asks for the trusted peers, and for the nodes that this one has asked.
type TrustRequest struct{}

// ReceivedRequest asks for the files that have arrived.
type ReceivedRequest struct{}

// StopRequest ends the node in order.
type StopRequest struct{}

// FindRequest looks a node up.
type FindRequest struct {
	Node string `json:"node"`
}

// SearchRequest asks for the public nodes that carry a tag.
type SearchRequest struct {
	Tag string `json:"tag"`
}

// HandshakeRequest asks for trust.
type HandshakeRequest struct {
	Node     string `json:"node"`
	Note     string `json:"note,omitzero"`      // at most 256 bytes, for the other node's owner
	Ports    string `json:"ports,omitzero"`     // of this node: "messages,80,8000-8010" or "all"; of a trusted peer: to ask for
	ExpiresS uint64 `json:"expires_s,omitzero"` // end of the trust, in seconds from now
	Quota    string `json:"quota,omitzero"`     // what the peer may use: "memory=64MB,streams=1000,disk=1GB,messages=10000/day"
}

// TakeBackRequest takes back a request of this node that has not been answered.
type TakeBackRequest struct {
	Node string `json:"node"`
}

// ApproveRequest approves a request for trust. The other fields are those of [HandshakeRequest].
type ApproveRequest struct {
	Node     string `json:"node"`
	Note     string `json:"note,omitzero"`
	Ports    string `json:"ports,omitzero"`
	ExpiresS uint64 `json:"expires_s,omitzero"`
	Quota    string `json:"quota,omitzero"`
}

// RejectRequest declines a request for trust.
type RejectRequest struct {
	Node string `json:"node"`
	Note string `json:"note,omitzero"` // at most 256 bytes, for the other node's owner
}

// GrantRequest lets a trusted peer reach more ports of this node.
type GrantRequest struct {
	Node     string `json:"node"`
	Ports    string `json:"ports,omitzero"`     // "messages,80,8000-8010" or "all"; empty: only the quota changes
	ExpiresS uint64 `json:"expires_s,omitzero"` // end of the grant, in seconds from now; 0: none
	Quota    string `json:"quota,omitzero"`     // as in [HandshakeRequest]; "default" takes back what was said
}

// RevokeRequest lets a trusted peer reach fewer ports of this node, whose streams it resets.
type RevokeRequest struct {
	Node  string `json:"node"`
	Ports string `json:"ports"`
}

// UntrustRequest withdraws trust.
type UntrustRequest struct {
	Node string `json:"node"`
}

// WaitTrustRequest waits until a node is trusted, at most an hour.
type WaitTrustRequest struct {
	Node      string `json:"node"`
	TimeoutMs uint64 `json:"timeout_ms,omitzero"`
}

// InviteRequest makes a code by which another node becomes a trusted peer at once.
type InviteRequest struct {
	Ports    string `json:"ports,omitzero"`     // of this node, that the joiner may reach; empty: as configured
	ExpiresS uint64 `json:"expires_s,omitzero"` // end of the code, in seconds from now; 0: an hour
	Uses     uint16 `json:"uses,omitzero"`      // how many nodes may join, at most 1000; 0: one
	Short    *bool  `json:"short,omitzero"`     // only for nodes that use this node's rendezvous
	Direct   *bool  `json:"direct,omitzero"`    // with addresses of this node alone
}

// InvitesRequest lists the invites of this node.
type InvitesRequest struct{}

// UninviteRequest withdraws an invite; peers that have joined by it stay.
type UninviteRequest struct {
	Invite string `json:"invite"`
}

// JoinRequest makes a trusted peer of the node that has made a code.
type JoinRequest struct {
	Code      string `json:"code"`
	Ports     string `json:"ports,omitzero"`      // of this node, that the inviter may reach; empty: as configured
	TimeoutMs uint64 `json:"timeout_ms,omitzero"` // at most an hour; 0: a minute
}

// GroupsRequest lists the groups of this node.
type GroupsRequest struct{}

// GroupMembersRequest lists the members of a group.
type GroupMembersRequest struct {
	Group string `json:"group"`
}

// GroupInviteRequest makes a code by which other nodes become members of a group.
type GroupInviteRequest struct {
	Group    string `json:"group"`
	ExpiresS uint64 `json:"expires_s,omitzero"` // end of the code, in seconds from now; 0: seven days
	Uses     uint16 `json:"uses,omitzero"`      // how many nodes may join, at most 1000; 0: 50
	Short    *bool  `json:"short,omitzero"`     // only for nodes that use this node's rendezvous
	Direct   *bool  `json:"direct,omitzero"`    // with addresses of this node alone
	Offline  *bool  `json:"offline,omitzero"`   // any member answers; needs the group key
}

// GroupRequest changes a group.
type GroupRequest struct {
	Act   string `json:"act"` // "create", "allow", "remove", "leave", "renew", "role" or "rekey"
	Group string `json:"group"`
	Node  string `json:"node,omitzero"`  // the member
	Ports string `json:"ports,omitzero"` // of this node, that members may reach
	Role  string `json:"role,omitzero"`  // "admin" or "member"
}

// GroupImportRequest takes the secret key of a group from where it was kept: this node, a member, is an admin from now on.
type GroupImportRequest struct {
	Group string `json:"group"`
	Key   string `json:"key"`
}

// GroupExportRequest tells the secret key of a group.
type GroupExportRequest struct {
	Group string `json:"group"`
}

// ProfileRequest changes what the node says of itself. Nil leaves a field as it is.
type ProfileRequest struct {
	Hostname *string  `json:"hostname,omitzero"` // empty: none
	Public   *bool    `json:"public,omitzero"`
	Tags     []string `json:"tags,omitzero"` // at most three; empty and not nil: none
}

// SendMessageRequest puts the data beside it into a peer's inbox.
type SendMessageRequest struct {
	Node      string `json:"node"`
	Type      string `json:"type,omitzero"`  // "text", "json" or "binary"; empty: "text"
	Queue     *bool  `json:"queue,omitzero"` // whether it waits in the outbox when the peer does not answer; nil: it does
	TimeoutMs uint64 `json:"timeout_ms,omitzero"`
}

// AskRequest puts the data beside it into a peer's inbox as a question, and waits for the answer. [Node.Ask] gives its bytes.
type AskRequest struct {
	Node      string  `json:"node"`
	Type      string  `json:"type,omitzero"`       // "text", "json" or "binary"; empty: "text"
	TimeoutMs *uint64 `json:"timeout_ms,omitzero"` // nil: ten minutes
	DeadlineS uint64  `json:"deadline_s,omitzero"` // when it is not handed out any more, in seconds from now; 0: 604800
}

// ReplyRequest answers a question of the inbox with the data beside it.
type ReplyRequest struct {
	Question string `json:"question"`      // its number, or its message_id
	Type     string `json:"type,omitzero"` // "text", "json" or "binary"; empty: "text"
}

// WaitAnswerRequest tells how far a question of this node is, and waits for its answer. [Node.WaitAnswer] gives its bytes.
type WaitAnswerRequest struct {
	Question  string `json:"question"` // its message_id
	TimeoutMs uint64 `json:"timeout_ms,omitzero"`
}

// AnswersRequest asks for the questions of this node.
type AnswersRequest struct {
	Limit uint64 `json:"limit,omitzero"` // 0: 50
}

// FailQuestionRequest marks a question of the inbox as failed.
type FailQuestionRequest struct {
	Seq    uint64 `json:"seq"`
	Reason string `json:"reason,omitzero"` // empty: the question is handed out again
}

// OutboxRequest asks for the messages that were given up, and for those that wait.
type OutboxRequest struct {
	Limit uint64 `json:"limit,omitzero"` // 0: 50
}

// InboxRequest asks for the newest messages of the inbox.
type InboxRequest struct {
	Limit  uint64 `json:"limit,omitzero"`  // 0: 50
	Before uint64 `json:"before,omitzero"` // only messages with a smaller number; 0: all
	Only   string `json:"only,omitzero"`   // "questions" or "failed"; empty: all messages
}

// InboxReadRequest reads a message.
type InboxReadRequest struct {
	Seq uint64 `json:"seq"`
}

// InboxNextRequest reads the oldest message with a greater number.
type InboxNextRequest struct {
	After uint64 `json:"after,omitzero"`
	Only  string `json:"only,omitzero"` // "questions" or "failed"; empty: all messages
}

// InboxTakeRequest takes messages out of the inbox.
type InboxTakeRequest struct {
	Seqs []uint64 `json:"seqs,omitzero"` // nil: all messages
}

// PublishRequest gives the data beside it to the subscribers of this node's event stream.
type PublishRequest struct {
	Topic string `json:"topic"`
}

// SendDatagramRequest sends the data beside it as one datagram, which may be lost.
type SendDatagramRequest struct {
	Node   string `json:"node"`
	Port   uint16 `json:"port"`
	Source uint16 `json:"source,omitzero"` // the port that it comes from; 0: the same as Port
}

// DisconnectRequest aborts a stream.
type DisconnectRequest struct {
	Stream uint64 `json:"stream"`
}

// ForwardRequest lets programs of this machine reach a peer's port through a listener.
type ForwardRequest struct {
	Node      string `json:"node"`
	Port      uint16 `json:"port"`
	Listen    string `json:"listen"`             // "[HOST:]PORT" or "unix:PATH"; any free port with port 0
	Temporary bool   `json:"temporary,omitzero"` // it ends with the connection to the daemon
}

// ForwardsRequest lists the forwards.
type ForwardsRequest struct{}

// UnforwardRequest removes a forward; connections that stand go on.
type UnforwardRequest struct {
	Listen string `json:"listen"`
}

// ExposeRequest lets peers reach a program of this machine at a port of this node.
type ExposeRequest struct {
	Port          uint16   `json:"port"`
	Target        string   `json:"target"` // "PORT", "HOST:PORT" or "unix:PATH"
	HTTP          bool     `json:"http,omitzero"`
	A2A           bool     `json:"a2a,omitzero"`
	ProxyProtocol bool     `json:"proxy_protocol,omitzero"`
	Nodes         []string `json:"nodes,omitzero"`     // nil: all peers that trust lets in
	Temporary     bool     `json:"temporary,omitzero"` // it ends with the connection to the daemon
}

// ExposesRequest lists the exposed ports.
type ExposesRequest struct{}

// UnexposeRequest ends an expose; connections that stand go on.
type UnexposeRequest struct {
	Port uint16 `json:"port"`
}

// ProxyRequest lets programs of this machine say which peer they want, by SOCKS 5 or HTTP.
type ProxyRequest struct {
	Listen    string `json:"listen"`
	Direct    bool   `json:"direct,omitzero"`    // hosts that are no nodes are reached too
	AuthFile  string `json:"auth_file,omitzero"` // lines user:password
	Temporary bool   `json:"temporary,omitzero"` // it ends with the connection to the daemon
}

// ProxiesRequest lists the proxies.
type ProxiesRequest struct{}

// UnproxyRequest removes a proxy; connections that stand go on.
type UnproxyRequest struct {
	Listen string `json:"listen"`
}

// WhoisRequest asks for the peer behind a connection that a program behind an exposed port has accepted.
type WhoisRequest struct {
	Local string `json:"local"` // the address of the connection's client as that program sees it
}

// SetWebhookRequest makes a daemon post what happens to a URL.
type SetWebhookRequest struct {
	URL      string `json:"url"`               // https, or http to this machine; empty: none
	Insecure bool   `json:"insecure,omitzero"` // whether plain http may leave this machine
	Secret   string `json:"secret,omitzero"`   // key of the signatures, 16 to 256 bytes; empty: one is made
}

func (InfoRequest) verb() string         { return "info" }
func (VersionRequest) verb() string      { return "version" }
func (PeersRequest) verb() string        { return "peers" }
func (PathRequest) verb() string         { return "path" }
func (ConnectionsRequest) verb() string  { return "connections" }
func (PendingRequest) verb() string      { return "pending" }
func (TrustRequest) verb() string        { return "trust" }
func (ReceivedRequest) verb() string     { return "received" }
func (StopRequest) verb() string         { return "stop" }
func (FindRequest) verb() string         { return "find" }
func (SearchRequest) verb() string       { return "search" }
func (HandshakeRequest) verb() string    { return "handshake" }
func (TakeBackRequest) verb() string     { return "take_back" }
func (ApproveRequest) verb() string      { return "approve" }
func (RejectRequest) verb() string       { return "reject" }
func (GrantRequest) verb() string        { return "grant" }
func (RevokeRequest) verb() string       { return "revoke" }
func (UntrustRequest) verb() string      { return "untrust" }
func (WaitTrustRequest) verb() string    { return "wait_trust" }
func (InviteRequest) verb() string       { return "invite" }
func (InvitesRequest) verb() string      { return "invites" }
func (UninviteRequest) verb() string     { return "uninvite" }
func (JoinRequest) verb() string         { return "join" }
func (GroupsRequest) verb() string       { return "groups" }
func (GroupMembersRequest) verb() string { return "group_members" }
func (GroupInviteRequest) verb() string  { return "group_invite" }
func (GroupRequest) verb() string        { return "group" }
func (GroupExportRequest) verb() string  { return "group_export" }
func (GroupImportRequest) verb() string  { return "group_import" }
func (ProfileRequest) verb() string      { return "profile" }
func (SendMessageRequest) verb() string  { return "send_message" }
func (AskRequest) verb() string          { return "ask" }
func (ReplyRequest) verb() string        { return "reply" }
func (WaitAnswerRequest) verb() string   { return "wait_answer" }
func (AnswersRequest) verb() string      { return "answers" }
func (FailQuestionRequest) verb() string { return "fail_question" }
func (OutboxRequest) verb() string       { return "outbox" }
func (InboxRequest) verb() string        { return "inbox" }
func (InboxReadRequest) verb() string    { return "inbox_read" }
func (InboxNextRequest) verb() string    { return "inbox_next" }
func (InboxTakeRequest) verb() string    { return "inbox_take" }
func (PublishRequest) verb() string      { return "publish" }
func (SendDatagramRequest) verb() string { return "send_datagram" }
func (DisconnectRequest) verb() string   { return "disconnect" }
func (ForwardRequest) verb() string      { return "forward" }
func (ForwardsRequest) verb() string     { return "forwards" }
func (UnforwardRequest) verb() string    { return "unforward" }
func (ExposeRequest) verb() string       { return "expose" }
func (ExposesRequest) verb() string      { return "exposes" }
func (UnexposeRequest) verb() string     { return "unexpose" }
func (ProxyRequest) verb() string        { return "proxy" }
func (ProxiesRequest) verb() string      { return "proxies" }
func (UnproxyRequest) verb() string      { return "unproxy" }
func (WhoisRequest) verb() string        { return "whois" }
func (SetWebhookRequest) verb() string   { return "set_webhook" }

// encode gives a request as the node reads it: one JSON object that begins with the verb.
func encode(request Request) ([]byte, error) {
	fields, err := json.Marshal(request)
	if err != nil {
		return nil, err
	}
	head := `{"op":"` + request.verb() + `"`
	if len(fields) > len("{}") {
		head += ","
	}
	return append([]byte(head), fields[1:]...), nil
}
