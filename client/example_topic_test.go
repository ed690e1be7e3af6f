package client_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/server"
	"github.com/rafka-mq/rafka/server/servertest"
	"github.com/rafka-mq/rafka/wire"
)

// A message that is published twice under one ID is stored once, whoever sent it.
func ExampleMessage_id() {
	ctx := context.Background()
	c, stop := start(ctx)
	defer stop()

	_, err := c.CreateTopic(ctx, "payments", client.TopicOptions{
		Settings: []wire.Setting{{Key: "dedupe_window", Value: "10m"}},
	})
	must(err)
	for range 2 {
		r, err := c.Publish(ctx, &client.Message{Topic: "payments", ID: "invoice-4711", Value: []byte("12 EUR")})
		must(err)
		fmt.Println(r.Offset, r.Duplicate)
	}
	// Output:
	// 0 false
	// 0 true
}

// Both sides of a transfer are stored, or neither is.
func ExampleClient_PublishAtomic() {
	ctx := context.Background()
	c, stop := start(ctx)
	defer stop()

	r, err := c.PublishAtomic(ctx,
		&client.Message{Topic: "ledger", Value: []byte("alice -12")},
		&client.Message{Topic: "ledger", Value: []byte("bob +12")},
	)
	must(err)
	f, err := c.Fetch(ctx, client.FetchRequest{Topic: "ledger", From: client.At(r.Offset)})
	must(err)
	fmt.Println(len(f.Messages))
	// Output: 2
}

// A compacted topic is a table: it keeps the latest message of every key.
func ExampleClient_Get() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "rafka")
	must(err)
	defer os.RemoveAll(dir)
	tb := new(exampleTB)
	b := servertest.Start(tb, servertest.Options{Server: server.Options{Dir: dir}})
	defer b.Stop()
	c, err := client.Dial(ctx, b.Addr, client.Options{Dialer: b.Dial})
	must(err)
	defer c.Close(ctx)

	_, err = c.CreateTopic(ctx, "users", client.TopicOptions{
		Settings: []wire.Setting{{Key: "cleanup", Value: "compact"}},
	})
	must(err)
	for _, name := range []string{"Alice", "Alice B."} {
		_, err = c.Publish(ctx, &client.Message{Topic: "users", Key: []byte("7"), Value: []byte(name)})
		must(err)
	}
	m, err := c.Get(ctx, "users", []byte("7"))
	must(err)
	fmt.Printf("%s\n", m.Value)

	_, err = c.Publish(ctx, &client.Message{Topic: "users", Key: []byte("7")}) // no value: deleted
	must(err)
	_, err = c.Get(ctx, "users", []byte("7"))
	fmt.Println(errors.Is(err, wire.CodeKeyNotFound))
	// Output:
	// Alice B.
	// true
}

// The broker leaves out what a reader does not want, by headers.
func ExampleSubscription_filter() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, stop := start(ctx)
	defer stop()

	for i, kind := range []string{"order", "invoice", "order", "invoice"} {
		_, err := c.Publish(ctx, &client.Message{
			Topic: "events", Value: fmt.Appendf(nil, "%s %d", kind, i),
			Headers: []client.Header{{Name: "type", Value: []byte(kind)}},
		})
		must(err)
	}
	k, err := c.Subscribe(ctx, client.Subscription{
		Topic: "events", Filter: wire.Filter{{Op: wire.FilterEqual, Name: "type", Value: "invoice"}},
	})
	must(err)
	defer k.Close()
	for range 2 {
		m, err := k.Next(ctx)
		must(err)
		fmt.Printf("%d %s\n", m.Offset, m.Value)
	}
	// Output:
	// 1 invoice 1
	// 3 invoice 3
}
