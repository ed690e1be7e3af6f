package server

import (
	"encoding/json"
	"net"
	"strconv"

	"github.com/google/uuid"

	"github.com/rafka-mq/rafka/wire"
)

// natsVersion is the level of the NATS client protocol that the text mode speaks. Clients switch
// behaviour on it, so it is not our own version.
const natsVersion = "2.10.0"

// info is the greeting: what a NATS client needs, and what a Rafka client may like to know.
type info struct {
	ServerID   string   `json:"server_id"`
	ServerName string   `json:"server_name"`
	Version    string   `json:"version"`
	Proto      int      `json:"proto"`
	Host       string   `json:"host"`
	Port       int      `json:"port"`
	Headers    bool     `json:"headers"`
	MaxPayload int      `json:"max_payload"`
	ClientID   int32    `json:"client_id"`
	ClientIP   string   `json:"client_ip"`
	Auth       bool     `json:"auth_required,omitempty"`
	Nonce      string   `json:"nonce,omitempty"`
	TLS        bool     `json:"tls_required,omitempty"`
	TLSOffered bool     `json:"tls_available,omitempty"`
	URLs       []string `json:"connect_urls,omitempty"`
	LameDuck   bool     `json:"ldm,omitempty"`
	Rafka      string   `json:"rafka"`
	Binary     int      `json:"rafka_binary"`
}

// addressed is a connection that knows its peer.
type addressed interface{ RemoteAddr() net.Addr }

// appendInfo appends the greeting line for a connection.
func (srv *Server) appendInfo(dst []byte, s *session, c addressed) []byte {
	host, port := splitAddr(srv.Addr())
	clientIP, _ := splitAddr(c.RemoteAddr())
	var urls []string
	if a := srv.opts.Advertise; a != "" {
		urls = []string{a}
		if h, p, err := net.SplitHostPort(a); err == nil {
			host = h
			port, _ = strconv.Atoi(p) // New has checked it
		}
	}
	tlsOn := srv.opts.TLS.Config != nil
	body, err := json.Marshal(info{
		ServerID: uuid.UUID(srv.id).String(), ServerName: srv.opts.Name, Version: natsVersion, Proto: 1,
		Host: host, Port: port, Headers: !srv.opts.NoHeaders, URLs: urls, MaxPayload: srv.maxPayload(), ClientID: int32(s.id & 0x7fffffff), ClientIP: clientIP,
		TLS: tlsOn && !srv.opts.TLS.Mixed, TLSOffered: tlsOn && srv.opts.TLS.Mixed,
		Auth: srv.required(), Nonce: s.nonce,
		LameDuck: srv.lame.Load() || s.loop != nil && s.loop.draining, Rafka: srv.opts.Version, Binary: wire.Version,
	})
	if err != nil {
		panic("server: greeting cannot be encoded: " + err.Error())
	}
	dst = append(dst, "INFO "...)
	dst = append(dst, body...)
	return append(dst, "\r\n"...)
}

// maxPayload is the largest payload of a text publish.
func (srv *Server) maxPayload() int { return srv.registry.Defaults().MaxRecord }

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
