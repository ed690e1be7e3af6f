package main

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/client"
)

func printed(t *testing.T, output string, m *client.Message) string {
	t.Helper()
	var b bytes.Buffer
	c := newCLI(nil, &b, nil, func(string) (string, bool) { return "", false })
	c.output = output
	w := c.newMessageWriter()
	require.NoError(t, w.write(m, false))
	require.Empty(t, b.String(), "written before it was asked for")
	require.NoError(t, w.flush())
	return b.String()
}

// The names of the fields are an interface: programs read them.
func TestMessagesAsJSON(t *testing.T) {
	at := time.Date(2026, 11, 22, 10, 0, 1, 113_000_000, time.UTC)
	f := func(m client.Message, want string) {
		t.Helper()
		m.Topic, m.Partition, m.Offset, m.Time = "orders", 2, 7, at
		for _, output := range []string{"json", "jsonl"} {
			require.Equal(t, `{"topic":"orders","partition":2,"offset":7,"time":"2026-11-22T10:00:01.113Z",`+want+"}\n",
				printed(t, output, &m))
		}
	}
	f(client.Message{}, `"key":null,"value":null`)
	f(client.Message{Key: []byte{}, Value: []byte{}}, `"key":"","value":""`)
	f(client.Message{Key: []byte("alice"), Value: []byte(`<"hé">`)}, `"key":"alice","value":"<\"hé\">"`)
	f(client.Message{Key: []byte{0xff}, Value: []byte{0, 0xfe}},
		`"key":null,"key_base64":"/w==","value":null,"value_base64":"AP4="`)
	f(client.Message{Headers: []client.Header{{Name: "a", Value: []byte("1")}, {Name: "b", Value: []byte{0xff}}}, Subject: "s.t", Attempt: 3},
		`"key":null,"value":null,"headers":[{"name":"a","value":"1"},{"name":"b","value":null,"value_base64":"/w=="}],"subject":"s.t","attempt":3`)
	f(client.Message{Headers: []client.Header{{Name: "\xffn", Value: []byte("1")}}},
		`"key":null,"value":null,"headers":[{"name":null,"name_base64":"/24=","value":"1"}]`)
}

func TestMessagesAsText(t *testing.T) {
	m := client.Message{
		Topic: "orders", Partition: 2, Offset: 7, Time: time.Date(2026, 11, 22, 10, 0, 1, 113_000_000, time.UTC),
		Key: []byte("alice"), Value: []byte("hello\x1b[31m\n"), Headers: []client.Header{{Name: "n", Value: []byte("v")}},
	}
	require.Equal(t, "10:00:01.113  orders/2@7  alice  \"hello\\x1b[31m\\n\"  n=v\n", printed(t, "table", &m))
	m.Key, m.Value, m.Headers = nil, nil, nil
	require.Equal(t, "10:00:01.113  orders/2@7  -  (nil)\n", printed(t, "table", &m))
	m.Value = []byte(`say "hé"`)
	require.Equal(t, "10:00:01.113  orders/2@7  -  say \"hé\"\n", printed(t, "table", &m))
}

func TestRawMessagesAreTheirValue(t *testing.T) {
	require.Equal(t, "\xff\x00x\n", printed(t, "raw", &client.Message{Value: []byte("\xff\x00x")}))
}
