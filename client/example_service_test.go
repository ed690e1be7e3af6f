package client_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/rafka-mq/rafka/client"
)

// A service ends with a signal. Run lets its handlers finish and settles what they handled; Close has a context of its
// own, because that of the service has ended.
func Example_shutdown() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	c, stopBroker := start(ctx)
	defer stopBroker()
	_, err := c.Publish(ctx, &client.Message{Topic: "orders", Value: []byte("one book")})
	must(err)

	err = c.Run(ctx, client.Queue("mailer", "orders"), func(_ context.Context, m *client.Message) error {
		stop() // as a signal does
		fmt.Printf("sent %s\n", m.Value)
		return nil // acknowledged all the same
	})
	if !errors.Is(err, context.Canceled) { // reading has become impossible
		fmt.Println(err)
	}
	closing, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	must(c.Close(closing))
	fmt.Println("nothing is lost")
	// Output:
	// sent one book
	// nothing is lost
}

// What a queue gave up on is looked at, and delivered once more when the fault is mended.
func ExampleClient_DeadLetters() {
	ctx := context.Background()
	c, stop := start(ctx)
	defer stop()
	_, err := c.Publish(ctx, &client.Message{Topic: "mail", Key: []byte("alice"), Value: []byte("hello")})
	must(err)
	sending, fail := context.WithCancel(ctx)
	_ = c.Run(sending, client.Queue("sender", "mail"), func(context.Context, *client.Message) error {
		fail()
		return client.Reject(errors.New("no such address")) // after any other error it is delivered again
	})

	_, err = c.EnsureTopic(ctx, "mail.sender.dlq", client.TopicOptions{}) // else the first letter makes it, a moment later
	must(err)
	letters, err := c.Subscribe(ctx, client.Subscription{Topic: "mail.sender.dlq"})
	must(err)
	_, err = letters.Next(ctx)
	must(err)
	letters.Close()
	for letter, err := range c.DeadLetters(ctx, "mail.sender.dlq") {
		must(err)
		fmt.Printf("%s for %s: %s\n", letter.Value, letter.Key, letter.Reason)
		_, err = c.ReplayDead(ctx, letter) // or DiscardDead
		must(err)
	}
	err = c.Run(ctx, client.Queue("sender", "mail"), func(_ context.Context, m *client.Message) error {
		fmt.Printf("sent %s\n", m.Value)
		return client.ErrStop
	})
	must(err)
	// Output:
	// hello for alice: no such address
	// sent hello
}

// SeekGroup has a group read again what came since a time.
func ExampleClient_SeekGroup() {
	ctx := context.Background()
	c, stop := start(ctx)
	defer stop()
	for _, v := range []string{"deposit 10", "withdraw 7", "deposit 5"} {
		_, err := c.Publish(ctx, &client.Message{Topic: "account", Value: []byte(v)})
		must(err)
	}
	must(c.Commit(ctx, "ledger", "account", map[int]uint64{0: 3}))

	moves, err := c.PlanSeek(ctx, "ledger", "account", nil, client.Since(time.Now().Add(-time.Hour)))
	must(err)
	to := map[int]uint64{}
	for _, m := range moves {
		fmt.Printf("partition %d: from %d to %d\n", m.Partition, m.From, m.To)
		to[m.Partition] = m.To
	}
	must(c.SeekGroup(ctx, "ledger", "account", to))
	// Output: partition 0: from 3 to 0
}

// What is sent to a subject is not stored: whoever listens gets it.
func ExampleClient_Listen() {
	ctx := context.Background()
	c, stop := start(ctx)
	defer stop()

	heard := make(chan string)
	l, err := c.Listen(ctx, "orders.*", client.ListenOptions{}, func(_ context.Context, m *client.Message) {
		heard <- fmt.Sprintf("%s %s", m.Subject, m.Value)
	})
	must(err)
	must(c.Send(ctx, &client.Message{Subject: "orders.eu", Value: []byte("one book")}))
	fmt.Println(<-heard)
	must(l.Close())
	// Output: orders.eu one book
}
