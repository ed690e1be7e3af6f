package server

import (
	"fmt"
	"log/slog"
)

// gnetLogger passes gnet's messages on. What gnet calls an error is mostly a peer that went away, so
// only Fatalf is louder than debug.
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
