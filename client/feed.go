package client

import "github.com/rafka-mq/rafka/wire"

type feed struct{}

func (f *feed) resume(cn *conn) {}
func (f *feed) end(err error)   {}

type part struct{}

func (s *part) onEntries(cn *conn, f *frame) error { return nil }
func (s *part) onEnd(cn *conn, e *wire.Error)      {}
func (s *part) onLost(cn *conn)                    {}
