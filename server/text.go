package server

import "time"

type text struct{ s *session }

func newText(s *session) *text { return &text{s: s} }

func isTextStart(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

func (t *text) feed([]byte, time.Time)          {}
func (t *text) ended(time.Time)                 {}
func (t *text) drain(time.Duration, time.Time)  {}
func (t *text) unblock(time.Time) bool          { return false }
func (t *text) waiting() bool                   { return false }
