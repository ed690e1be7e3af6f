package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/client"
	"github.com/rafka-mq/rafka/server/servertest"
	"github.com/rafka-mq/rafka/wire"
)

// distant is a broker behind a proxy that passes requests of some kinds on only when as many of them have arrived as are
// to be sent at once. So a command that waits for an answer before it sends the next request times out.
type distant struct {
	*servertest.Broker
	addr string

	mu     sync.Mutex
	gather map[wire.Op]int // how many there are still to come
	seen   map[wire.Op]int
	wait   map[wire.Op][]byte
}

func startDistant(t *testing.T) *distant {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	d := &distant{Broker: servertest.Start(t, servertest.Options{}), addr: ln.Addr().String()}
	d.expect(map[wire.Op]int{})
	var all sync.WaitGroup
	all.Go(func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			far, err := d.Dial(context.Background(), "")
			if err != nil {
				_ = near.Close()
				continue
			}
			all.Go(func() {
				_, _ = io.Copy(near, far)
				_ = near.Close()
			})
			all.Go(func() {
				d.forward(far, near)
				_ = far.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		all.Wait()
	})
	return d
}

// expect sets how many requests of each kind come at once. It forgets what was seen before.
func (d *distant) expect(gather map[wire.Op]int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.gather, d.seen, d.wait = gather, map[wire.Op]int{}, map[wire.Op][]byte{}
}

func (d *distant) count(op wire.Op) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.seen[op]
}

// forward passes on what a client sends.
func (d *distant) forward(far io.Writer, near io.Reader) {
	if _, err := io.CopyN(far, near, wire.PrefaceBytes); err != nil {
		return
	}
	var have []byte
	some := make([]byte, 4<<10)
	for {
		n, err := near.Read(some)
		if err != nil {
			return
		}
		have = append(have, some[:n]...)
		for {
			f, rest, _, ok, err := wire.NextFrame(have, wire.MaxFrameBytes)
			if err != nil {
				return
			}
			if !ok {
				break
			}
			if _, err := far.Write(d.pass(f.Op, have[:len(have)-len(rest)])); err != nil {
				return
			}
			have = rest
		}
	}
}

// pass returns what may be sent now that a request has arrived.
func (d *distant) pass(op wire.Op, frame []byte) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seen[op]++
	d.wait[op] = append(d.wait[op], frame...)
	if d.gather[op]--; d.gather[op] > 0 {
		return nil
	}
	out := d.wait[op]
	d.wait[op] = nil
	return out
}

// client returns a client that does not go through the proxy.
func (d *distant) client(t *testing.T) *client.Client {
	c, err := client.Dial(t.Context(), d.Addr, client.Options{Dialer: d.Dial})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close(context.Background())) })
	return c
}

// rafka runs a command against the proxy.
func (d *distant) rafka(t *testing.T, args ...string) (code int, stdout, stderr string) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var out, errs bytes.Buffer
	c := newCLI(strings.NewReader(""), &out, &errs, func(string) (string, bool) { return "", false })
	code = c.run(ctx, append([]string{"-s", d.addr}, args...))
	return code, out.String(), errs.String()
}

func (d *distant) topic(t *testing.T, c *client.Client, name string, partitions int) {
	_, err := c.CreateTopic(t.Context(), name, client.TopicOptions{Partitions: partitions})
	require.NoError(t, err)
	for p := range partitions {
		for _, value := range []string{"a", "b"} {
			_, err := c.Publish(t.Context(), &client.Message{Topic: name, Partition: p, Pinned: true, Value: []byte(value)})
			require.NoError(t, err)
		}
	}
}

func TestManyPartitionsAreReadAtOnce(t *testing.T) {
	d := startDistant(t)
	d.topic(t, d.client(t), "t", mostAhead)

	d.expect(map[wire.Op]int{wire.OpFetch: mostAhead})
	code, out, said := d.rafka(t, "sub", "t", "--from", "start", "--exit-on-end", "-o", "raw")
	require.Zero(t, code, said)
	require.Equal(t, strings.Repeat("a\nb\n", mostAhead), out)
	require.Equal(t, mostAhead, d.count(wire.OpFetch))

	d.expect(map[wire.Op]int{wire.OpFetch: mostAhead, wire.OpOffsets: mostAhead})
	code, out, said = d.rafka(t, "sub", "t", "--from", "start:+1", "-o", "raw")
	require.Zero(t, code, said)
	require.Equal(t, strings.Repeat("a\n", mostAhead), out)
}

func TestAllOfATopicIsPurgedWithOneRequest(t *testing.T) {
	d := startDistant(t)
	const many = 2 * mostAhead
	d.topic(t, d.client(t), "t", many)
	for _, c := range []struct {
		removed, requests int
		args              []string
	}{
		{many, many, []string{"--before", "-1"}},
		{1, 1, []string{"--partition", "3"}},
		{many - 1, 1, nil},
		{0, 0, nil},
	} {
		d.expect(map[wire.Op]int{})
		code, _, said := d.rafka(t, append([]string{"topic", "purge", "t", "--yes"}, c.args...)...)
		require.Zero(t, code, said)
		require.Contains(t, said, "removed "+plural(uint64(c.removed), "message"))
		require.Equal(t, c.requests, d.count(wire.OpPurgeTopic))
	}
}

func TestWhatIsReadAheadOfAPartitionIsNotAllOfIt(t *testing.T) {
	d := startDistant(t)
	c := d.client(t)
	d.topic(t, c, "t", 2)
	large := bytes.Repeat([]byte("x"), aheadBytes)
	for p := range 2 {
		_, err := c.Publish(t.Context(), &client.Message{Topic: "t", Partition: p, Pinned: true, Value: large})
		require.NoError(t, err)
	}
	code, out, said := d.rafka(t, "sub", "t", "--from", "start", "--exit-on-end", "-o", "raw")
	require.Zero(t, code, said)
	require.True(t, out == strings.Repeat("a\nb\n"+string(large)+"\n", 2))
	require.Equal(t, 4, d.count(wire.OpFetch))
}

// slowReader is a stdout that takes its first bytes only when the proxy has seen two fetches.
type slowReader struct {
	t *testing.T
	d *distant
	bytes.Buffer
}

func (s *slowReader) Write(b []byte) (int, error) {
	require.Eventually(s.t, func() bool { return s.d.count(wire.OpFetch) >= 2 }, 10*time.Second, time.Millisecond)
	return s.Buffer.Write(b)
}

func TestTheNextPageIsFetchedWhileOneIsPrinted(t *testing.T) {
	d := startDistant(t)
	c := d.client(t)
	d.topic(t, c, "t", 1)
	large := bytes.Repeat([]byte("x"), aheadBytes)
	_, err := c.Publish(t.Context(), &client.Message{Topic: "t", Value: large})
	require.NoError(t, err)
	for _, args := range [][]string{{}, {"-n", "1"}} { // the second one ends while the page is on its way
		d.expect(map[wire.Op]int{})
		out := &slowReader{t: t, d: d}
		cli := newCLI(strings.NewReader(""), out, io.Discard, func(string) (string, bool) { return "", false })
		args = append([]string{"-s", d.addr, "sub", "t", "--from", "start", "--exit-on-end", "-o", "raw"}, args...)
		require.Zero(t, cli.run(t.Context(), args))
		require.True(t, strings.HasPrefix("a\nb\n"+string(large)+"\n", out.String()))
	}
}

func TestAGroupIsMovedOnAllItsTopicsAtOnce(t *testing.T) {
	d := startDistant(t)
	c := d.client(t)
	for _, name := range []string{"c", "a", "b"} {
		d.topic(t, c, name, 2)
		require.NoError(t, c.SeekGroup(t.Context(), "g", name, map[int]uint64{0: 1, 1: 1}))
	}
	d.expect(map[wire.Op]int{
		wire.OpCommitted: 3, wire.OpDescribeTopic: 3, wire.OpOffsets: 6, wire.OpSeekGroup: 3,
	})
	code, out, said := d.rafka(t, "group", "seek", "g", "--to", "start", "--yes", "-o", "jsonl")
	require.Zero(t, code, said)
	row := `{"group":"g","topic":"%s","partition":%d,"from":1,"to":0}` + "\n"
	want := ""
	for _, name := range []string{"a", "b", "c"} {
		want += fmt.Sprintf(row, name, 0) + fmt.Sprintf(row, name, 1)
	}
	require.Equal(t, want, out)
}

func TestWhereAGroupWasMovedIsSaidWhenATopicFails(t *testing.T) {
	d := startDistant(t)
	c := d.client(t)
	var rows []seekRow
	for _, name := range []string{"c", "a", "b"} {
		d.topic(t, c, name, 1)
		rows = append(rows, seekRow{"g", name, 0, 0, 2})
	}
	rows[2].To = 3 // as if messages had gone since the plan was made
	err := newCLI(nil, nil, nil, nil).moveGroup(t.Context(), c, "g", rows)
	require.ErrorIs(t, err, wire.CodeOffsetOutOfRange)
	require.ErrorContains(t, err, `group "g" was moved on a, c only: `)
	require.Equal(t, exitPartly, explain(err).exit)
	for name, want := range map[string]map[int]uint64{"a": {0: 2}, "b": {}, "c": {0: 2}} {
		at, err := c.Committed(t.Context(), "g", name)
		require.NoError(t, err)
		require.Equal(t, want, at)
	}
}
