package client

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/rafka-mq/rafka/wire"
)

// keyHeader is the header that carries a message's key on a subject.
const keyHeader = "rafka-key"

const natsHeaderStart = "NATS/1.0\r\n"

// appendNATSHeader appends the key and the headers of m as a NATS header block, nothing when it has
// none. What does not fit a line is refused.
func appendNATSHeader(dst []byte, m *Message) ([]byte, error) {
	if m.Key == nil && len(m.Headers) == 0 {
		return dst, nil
	}
	at := len(dst)
	dst = append(dst, natsHeaderStart...)
	if m.Key != nil {
		if bytes.ContainsAny(m.Key, "\r\n") || len(bytes.TrimSpace(m.Key)) != len(m.Key) {
			return nil, fmt.Errorf("client: the key %q does not fit a header line", m.Key)
		}
		dst = append(append(append(dst, keyHeader+": "...), m.Key...), "\r\n"...)
	}
	for _, h := range m.Headers {
		if h.Name == "" || strings.ContainsAny(h.Name, ":\r\n") || bytes.ContainsAny(h.Value, "\r\n") {
			return nil, fmt.Errorf("client: the header %q does not fit a line", h.Name)
		}
		dst = append(append(append(dst, h.Name...), ": "...), h.Value...)
		dst = append(dst, "\r\n"...)
	}
	dst = append(dst, "\r\n"...)
	if len(dst)-at > wire.MaxHeaderBytes {
		return nil, fmt.Errorf("client: headers of over %d bytes", wire.MaxHeaderBytes)
	}
	return dst, nil
}

// parseNATSHeader sets the key and the headers of m, copied from a block. Lines that are no header are
// left out.
func parseNATSHeader(m *Message, block []byte) {
	_, rest, _ := strings.Cut(string(block), "\r\n")
	for rest != "" {
		var line string
		line, rest, _ = strings.Cut(rest, "\r\n")
		name, value, ok := strings.Cut(line, ":")
		if !ok || name == "" {
			continue
		}
		value = strings.Trim(value, " \t")
		if strings.EqualFold(name, keyHeader) {
			m.Key = []byte(value)
			continue
		}
		m.Headers = append(m.Headers, Header{Name: name, Value: []byte(value)})
	}
}
