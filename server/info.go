package server

import (
	"crypto/tls"
	"encoding/json"
	"net"
	"runtime"
	"strconv"

	"github.com/google/uuid"
)

// natsVersion is the version of nats-server whose protocol the text mode speaks. It is not Rafka's version, because
// clients choose their behaviour by it.
const natsVersion = "2.10.0"

// info is the greeting. It has only fields of nats-server's, because some clients, such as nats.php, refuse a greeting with
// unknown fields.
type info struct {
	ServerID   string   `json:"server_id"`
	ServerName string   `json:"server_name"`
	Version    string   `json:"version"`
	Build      string   `json:"git_commit"` // Rafka's name and version
	Go         string   `json:"go"`         // nats-core for Python requires it
	Proto      int      `json:"proto"`
	Host       string   `json:"host"`
	Port       int      `json:"port"`
	Headers    bool     `json:"headers"`
	MaxPayload int      `json:"max_payload"`
	Auth       bool     `json:"auth_required,omitempty"`
	Nonce      string   `json:"nonce,omitempty"` // beginInfo appends it, with what else differs between connections
	TLS        bool     `json:"tls_required,omitempty"`
	TLSVerify  bool     `json:"tls_verify,omitempty"` // a client needs a certificate
	TLSOffered bool     `json:"tls_available,omitempty"`
	URLs       []string `json:"connect_urls,omitempty"`
	LameDuck   bool     `json:"ldm,omitempty"`
}

// addressed is a connection that knows its peer.
type addressed interface{ RemoteAddr() net.Addr }

// appendInfo appends the greeting line for a connection.
func (srv *Server) appendInfo(dst []byte, s *session, c addressed) []byte {
	return append(srv.beginInfo(dst, s, c), "}\r\n"...)
}

// appendConnectInfo appends the line that answers a program's first PING: the greeting with the outcome of the login. The
// only account has the name that nats-server gives its default one.
func (srv *Server) appendConnectInfo(dst []byte, s *session, c addressed) []byte {
	return append(srv.beginInfo(dst, s, c), `,"connect_info":true,"remote_account":"`+onlyAccount+`"}`+"\r\n"...)
}

// beginInfo appends the greeting line without its end.
func (srv *Server) beginInfo(dst []byte, s *session, c addressed) []byte {
	dst = append(append(dst, "INFO "...), srv.greeting(srv.lame.Load() || s.loop != nil && s.loop.draining, s.inProcess)...)
	dst = strconv.AppendInt(append(dst, `"client_id":`...), int64(s.id&0x7fffffff), 10)
	if s.nonce != "" {
		dst = append(append(append(dst, `,"nonce":"`...), s.nonce...), '"')
	}
	return append(appendHost(append(dst, `,"client_ip":"`...), c.RemoteAddr()), '"') // an address needs no escapes
}

// greeting returns the part of the greeting that all connections get, ready for more fields. It is encoded once for each
// state of the broker, so that accepting a connection does not allocate. For connections within the process it does not
// ask for TLS.
func (srv *Server) greeting(lame, inProcess bool) []byte {
	required, secured := srv.required(), srv.tls.Load()
	kind := 0
	if lame {
		kind |= greetLame
	}
	if inProcess {
		kind |= greetInProcess
	}
	at := &srv.greetings[kind]
	if g := at.Load(); g != nil && g.required == required && g.secured == secured {
		return g.json
	}
	g := &greeting{required: required, secured: secured, json: srv.newGreeting(secured, lame, inProcess, required)}
	at.Store(g)
	return g.json
}

// greeting is the common part of greetings.
type greeting struct {
	required bool        // a login is
	secured  *tls.Config // what TLS asks of clients; nil without TLS
	json     []byte
}

// The kinds of greetings.
const (
	greetLame      = 1 << iota // the broker is in lame duck mode
	greetInProcess             // the connection is within the process
	greetKinds
)

func (srv *Server) newGreeting(secured *tls.Config, lame, inProcess, required bool) []byte {
	host, port := splitAddr(srv.Addr())
	var urls []string
	if a := srv.opts.Advertise; a != "" {
		if !lame { // where to go instead is not here
			urls = []string{a}
		}
		if h, p, err := net.SplitHostPort(a); err == nil {
			host = h
			port, _ = strconv.Atoi(p) // New has checked it
		}
	}
	encrypted := secured != nil && !inProcess
	body, err := json.Marshal(info{
		ServerID: uuid.UUID(srv.id).String(), ServerName: srv.opts.Name, Proto: 1,
		Version: natsVersion, Build: "rafka-" + srv.opts.Version, Go: runtime.Version(),
		Host: host, Port: port, Headers: !srv.opts.NoHeaders, URLs: urls, MaxPayload: srv.maxPayload,
		TLS: encrypted && !srv.opts.TLS.Mixed, TLSOffered: encrypted && srv.opts.TLS.Mixed,
		TLSVerify: encrypted && secured.ClientAuth == tls.RequireAndVerifyClientCert,
		Auth:      required, LameDuck: lame,
	})
	if err != nil {
		panic("server: greeting cannot be encoded: " + err.Error())
	}
	body[len(body)-1] = ','
	return body
}

// appendHost appends an address without its port.
func appendHost(dst []byte, a net.Addr) []byte {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap().AppendTo(dst)
	}
	host, _ := splitAddr(a)
	return append(dst, host...)
}

func splitAddr(a net.Addr) (host string, port int) {
	if a == nil {
		return "", 0
	}
	host, p, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String(), 0
	}
	port, _ = strconv.Atoi(p) // a listener's port is a number
	return host, port
}
