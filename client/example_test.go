package client_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/server/servertest"
	"github.com/rafka-mq/rafka/wire"
)

// exampleTB lets examples start a broker as tests do.
type exampleTB struct{ cleanups []func() }

func (*exampleTB) Helper()                           {}
func (*exampleTB) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
func (*exampleTB) Errorf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
func (e *exampleTB) Cleanup(f func())                { e.cleanups = append(e.cleanups, f) }

// start starts a broker in memory and connects to it.
func start(ctx context.Context) (c *client.Client, stop func()) {
	tb := new(exampleTB)
	b := servertest.Start(tb, servertest.Options{})
	c, err := client.Dial(ctx, b.Addr, client.Options{Dialer: b.Dial})
	if err != nil {
		panic(err)
	}
	return c, func() {
		_ = c.Close(ctx)
		for _, f := range tb.cleanups {
			f()
		}
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func Example() {
	ctx := context.Background()
	c, stop := start(ctx) // client.Dial(ctx, "127.0.0.1:4222", client.Options{})
	defer stop()

	receipt, err := c.Publish(ctx, &client.Message{Topic: "orders", Key: []byte("alice"), Value: []byte("hello")})
	must(err)
	fmt.Printf("stored as %s/%d@%d\n", receipt.Topic, receipt.Partition, receipt.Offset)

	err = c.Run(ctx, client.Queue("mailer", "orders"), func(_ context.Context, m *client.Message) error {
		fmt.Printf("%s says %s\n", m.Key, m.Value)
		return client.ErrStop
	})
	must(err)
	// Output:
	// stored as orders/0@0
	// alice says hello
}

func ExampleClient_PublishAsync() {
	ctx := context.Background()
	c, stop := start(ctx)
	defer stop()

	var stored atomic.Int64
	for i := range 1000 {
		m := client.Message{Topic: "readings", Value: fmt.Appendf(nil, "%d", i)}
		err := c.PublishAsync(ctx, &m, func(_ client.Receipt, err error) {
			if err == nil {
				stored.Add(1)
			}
		})
		must(err)
	}
	must(c.Flush(ctx))
	fmt.Println(stored.Load())
	// Output: 1000
}

func ExampleClient_Fetch() {
	ctx := context.Background()
	c, stop := start(ctx)
	defer stop()
	for _, v := range []string{"a", "b", "c", "d"} {
		_, err := c.Publish(ctx, &client.Message{Topic: "letters", Value: []byte(v)})
		must(err)
	}

	f, err := c.Fetch(ctx, client.FetchRequest{Topic: "letters", From: client.BeforeEnd(2)})
	must(err)
	for _, m := range f.Messages {
		fmt.Printf("%d %s\n", m.Offset, m.Value)
	}
	fmt.Println("next", f.Next)
	// Output:
	// 2 c
	// 3 d
	// next 4
}

func ExampleClient_Subscribe() {
	ctx := context.Background()
	c, stop := start(ctx)
	defer stop()
	for _, v := range []string{"a", "b", "c"} {
		_, err := c.Publish(ctx, &client.Message{Topic: "letters", Value: []byte(v)})
		must(err)
	}

	k, err := c.Subscribe(ctx, client.Subscription{Topic: "letters", From: client.At(1)})
	must(err)
	defer k.Close()
	for m, err := range k.Messages(ctx) {
		must(err)
		fmt.Printf("%d %s\n", m.Offset, m.Value)
		if m.Offset == 2 {
			break
		}
	}
	// Output:
	// 1 b
	// 2 c
}

func ExampleClient_Run_group() {
	ctx := context.Background()
	c, stop := start(ctx)
	defer stop()
	for _, v := range []string{"deposit 10", "withdraw 7"} {
		_, err := c.Publish(ctx, &client.Message{Topic: "account", Key: []byte("42"), Value: []byte(v)})
		must(err)
	}

	s := client.Group("ledger", "account")
	s.BackoffMin = time.Millisecond
	err := c.Run(ctx, s, func(_ context.Context, m *client.Message) error {
		if m.Attempt == 1 && m.Offset == 0 {
			return errors.New("the database is away") // this message first, then the others
		}
		fmt.Printf("%s (attempt %d)\n", m.Value, m.Attempt)
		if m.Offset == 1 {
			return client.ErrStop
		}
		return nil
	})
	must(err)
	offsets, err := c.Committed(ctx, "ledger", "account")
	must(err)
	fmt.Println("committed", offsets)
	// Output:
	// deposit 10 (attempt 2)
	// withdraw 7 (attempt 1)
	// committed map[0:2]
}

func ExampleClient_OpenQueue() {
	ctx := context.Background()
	c, stop := start(ctx)
	defer stop()
	_, err := c.Publish(ctx, &client.Message{Topic: "jobs", Value: []byte("resize cat.jpg")})
	must(err)

	q, err := c.OpenQueue(ctx, client.Queue("resizer", "jobs"))
	must(err)
	defer q.Close(ctx)
	ms, err := q.Fetch(ctx, 10)
	must(err)
	for _, m := range ms {
		fmt.Printf("%s\n", m.Value)
		must(m.Ack(ctx))
	}
	must(q.Flush(ctx)) // the broker has stored the acknowledgements
	// Output: resize cat.jpg
}

func ExampleError() {
	ctx := context.Background()
	c, stop := start(ctx)
	defer stop()

	_, err := c.Topic(ctx, "nowhere")
	fmt.Println(errors.Is(err, wire.CodeTopicNotFound))
	var e *client.Error
	if errors.As(err, &e) {
		fmt.Println(e.Op, e.Topic, e.Err.Code.String())
	}
	// Output:
	// true
	// describe_topic nowhere TOPIC_NOT_FOUND
}

func ExampleClient_Request() {
	ctx := context.Background()
	c, stop := start(ctx)
	defer stop()
	_, err := c.Request(ctx, &client.Message{Subject: "greet", Value: []byte("Ann")})
	fmt.Println(err)

	_, err = c.Reply(ctx, "greet", client.ListenOptions{Queue: "greeters"}, func(_ context.Context, m *client.Message) ([]byte, error) {
		return append([]byte("hello "), m.Value...), nil
	})
	must(err)
	answer, err := c.Request(ctx, &client.Message{Subject: "greet", Value: []byte("Ann")})
	must(err)
	fmt.Printf("%s\n", answer.Value)
	// Output:
	// client: no responders
	// hello Ann
}
