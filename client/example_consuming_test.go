package client_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rafka-mq/rafka/client"
)

// The blocks of docs/consuming.md are quoted from here.

func Example_group() {
	ctx := context.Background()
	c, stop := start(ctx)
	defer stop()
	_, err := c.Publish(ctx, &client.Message{Topic: "account", Key: []byte("42"), Value: []byte("deposit 10")})
	must(err)
	book := func(_ context.Context, entry []byte) error {
		fmt.Printf("booked %s\n", entry)
		return client.ErrStop
	}

	s := client.Group("ledger", "account")
	s.Workers = 4 // partitions handled at the same time
	err = c.Run(ctx, s, func(ctx context.Context, m *client.Message) error {
		return book(ctx, m.Value) // nil: done; an error: this message again, then the others
	})
	must(err)
	// Output: booked deposit 10
}

func ExampleClient_Messages() {
	ctx := context.Background()
	c, stop := start(ctx)
	defer stop()
	for _, v := range []string{"deposit 10", "withdraw 7", "withdraw 99"} {
		_, err := c.Publish(ctx, &client.Message{Topic: "account", Key: []byte("42"), Value: []byte(v)})
		must(err)
	}
	check := func(entry []byte) error {
		if string(entry) == "withdraw 99" {
			return errors.New("not enough")
		}
		return nil
	}

	audit := func() error {
		for m, err := range c.Messages(ctx, client.Group("audit", "account")) {
			if err != nil {
				return err
			}
			if err := check(m.Value); err != nil {
				return err // the message comes again
			}
		}
		return nil
	}
	fmt.Println(audit())
	offsets, err := c.Committed(ctx, "audit", "account")
	must(err)
	fmt.Println("committed", offsets)
	// Output:
	// not enough
	// committed map[0:2]
}

func ExampleClient_OpenGroup() {
	ctx := context.Background()
	c, stop := start(ctx)
	defer stop()
	for _, v := range []string{"deposit 10", "withdraw 7", "deposit 5"} {
		_, err := c.Publish(ctx, &client.Message{Topic: "account", Key: []byte("42"), Value: []byte(v)})
		must(err)
	}
	save := func(entries []*client.Message) error {
		for _, m := range entries {
			fmt.Printf("saved %s\n", m.Value)
		}
		return nil
	}

	g, err := c.OpenGroup(ctx, client.Group("warehouse", "account"))
	must(err)
	for rows := 0; rows < 3; {
		ms, err := g.Fetch(ctx, 2) // of one partition; what the last Fetch returned is done
		must(err)
		must(save(ms))
		rows += len(ms)
	}
	must(g.Commit(ctx)) // what this one returned is done, too, and all of it is committed
	must(g.Close(ctx))
	offsets, err := c.Committed(ctx, "warehouse", "account")
	must(err)
	fmt.Println("committed", offsets)
	// Output:
	// saved deposit 10
	// saved withdraw 7
	// saved deposit 5
	// committed map[0:3]
}

func Example_queue() {
	ctx := context.Background()
	c, stop := start(ctx)
	defer stop()
	_, err := c.Publish(ctx, &client.Message{Topic: "orders", Key: []byte("alice"), Value: []byte("one book")})
	must(err)
	send := func(_ context.Context, order []byte) error {
		fmt.Printf("sent %s\n", order)
		return client.ErrStop
	}

	s := client.Queue("mailer", "orders")
	s.Workers, s.OrderByKey = 16, true
	err = c.Run(ctx, s, func(ctx context.Context, m *client.Message) error {
		return send(ctx, m.Value) // nil: done; an error: again later
	})
	must(err)
	// Output: sent one book
}

func Example_later() {
	ctx := context.Background()
	c, stop := start(ctx)
	defer stop()
	later := time.Now().Add(time.Millisecond)

	_, err := c.Publish(ctx, &client.Message{Topic: "reminders", Value: []byte("call back"), Delay: 10 * time.Minute})
	must(err)
	_, err = c.Publish(ctx, &client.Message{Topic: "reminders", Value: []byte("lunch"), At: later})
	must(err)
	r, err := c.Publish(ctx, &client.Message{
		Topic: "reports", Value: []byte("weekly"), Cron: "0 9 * * 1", Zone: "Europe/Berlin",
	})
	must(err)
	missing, err := c.CancelScheduled(ctx, r.Topic, r.Partition, r.Schedule)
	must(err)

	fmt.Println("missing", missing)
	err = c.Run(ctx, client.Queue("alarm", "reminders"), func(_ context.Context, m *client.Message) error {
		fmt.Printf("%s\n", m.Value)
		return client.ErrStop
	})
	must(err)
	// Output:
	// missing 0
	// lunch
}
