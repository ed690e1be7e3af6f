package server

import "net"

type admin struct{ listener net.Listener }

func startAdmin(*Server) (*admin, error) { return nil, nil }
func (a *admin) close() error            { return a.listener.Close() }
