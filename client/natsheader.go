package client

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/rafka-mq/rafka/wire"
)

// keyHeader is the header that holds the key of a message sent to a subject.
const keyHeader = "rafka-key"

const natsHeaderStart = "NATS/1.0\r\n"

// appendNATSHeader appends the key and the headers of m as a NATS header block, or nothing when it
// has neither. It refuses what a header line cannot hold.
func appendNATSHeader(dst []byte, m *Message) ([]byte, error) {
	if m.Key == nil && len(m.Headers) == 0 {
		return dst, nil
	}
	at := len(dst)
	dst = append(dst, natsHeaderStart...)
	if m.Key != nil {
		if bytes.ContainsAny(m.Key, "\r\n") || len(bytes.TrimSpace(m.Key)) != len(m.Key) {
			return nil, fmt.Errorf("client: the key %q cannot be sent to a subject: a key has no line ends there, and no space at its ends", m.Key)
		}
		dst = append(append(append(dst, keyHeader+": "...), m.Key...), "\r\n"...)
	}
	for _, h := range m.Headers {
		if h.Name == "" || strings.ContainsAny(h.Name, ":\r\n") || bytes.ContainsAny(h.Value, "\r\n") {
			return nil, fmt.Errorf("client: the header %q cannot be sent to a subject: a name there is not empty and has no colon, and no header has line ends", h.Name)
		}
		dst = append(append(append(dst, h.Name...), ": "...), h.Value...)
		dst = append(dst, "\r\n"...)
	}
	dst = append(dst, "\r\n"...)
	if len(dst)-at > wire.MaxHeaderBytes {
		return nil, fmt.Errorf("client: the headers have more than %d bytes", wire.MaxHeaderBytes)
	}
	return dst, nil
}

// parseNATSHeader copies the key and the headers of a NATS header block into m. It skips lines that
// are not headers.
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
