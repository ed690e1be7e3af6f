package server

import (
	"fmt"
	"log/slog"
)

// gnetLogger logs gnet's messages at level debug, except those of Fatalf: most of gnet's errors only mean that a peer has
// disconnected.
type gnetLogger struct{ logger *slog.Logger }

func (g gnetLogger) Debugf(format string, args ...any) { g.debug(format, args) }
func (g gnetLogger) Infof(format string, args ...any)  { g.debug(format, args) }
func (g gnetLogger) Warnf(format string, args ...any)  { g.debug(format, args) }
func (g gnetLogger) Errorf(format string, args ...any) { g.debug(format, args) }
func (g gnetLogger) Fatalf(format string, args ...any) {
	g.logger.Error("event loop", "err", fmt.Sprintf(format, args...))
}

func (g gnetLogger) debug(format string, args []any) {
	g.logger.Debug("event loop", "err", fmt.Sprintf(format, args...))
}
