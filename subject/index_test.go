package subject

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rafka-mq/rafka/internal/seeds"
	"pgregory.net/rapid"
)

// model is the index as a list.
type model struct {
	x    *Index[int]
	subs []*Sub[int]
	of   map[*Sub[int]][2]string // pattern, queue
	next int
}

func newModel() *model { return &model{x: NewIndex[int](), of: map[*Sub[int]][2]string{}} }

func (m *model) insert(pattern, queue string) {
	m.next++
	s := m.x.Insert([]byte(pattern), []byte(queue), nil, m.next)
	m.subs = append(m.subs, s)
	m.of[s] = [2]string{pattern, queue}
}

func (m *model) remove(i int) {
	m.x.Remove(m.subs[i])
	delete(m.of, m.subs[i])
	m.subs = slices.Delete(m.subs, i, i+1)
}

// check compares one match with the comparison of every pattern.
func (m *model) check(t require.TestingT, subject string) {
	want := map[string][]int{}
	for _, s := range m.subs {
		if of := m.of[s]; Match([]byte(of[0]), []byte(subject)) {
			want[of[1]] = append(want[of[1]], s.Value)
		}
	}
	var got Matches[int]
	m.x.Match(&got, []byte(subject))
	require.Equal(t, want, byQueue(&got), "subject %s", subject)
	require.Equal(t, len(m.subs), m.x.Len())
}

func insert[V any](x *Index[V], pattern, queue string, v V) *Sub[V] {
	return x.Insert([]byte(pattern), []byte(queue), nil, v)
}

// empty reports whether nothing is left of what was inserted.
func empty[V any](x *Index[V]) bool { return x.root.more.Load() == nil && x.root.one.Load() == nil }

func byQueue(m *Matches[int]) map[string][]int {
	got := map[string][]int{}
	for _, s := range m.Subs {
		got[""] = append(got[""], s.Value)
	}
	for i := range m.Groups {
		for k := range m.Groups[i].Len() {
			if s := m.Groups[i].At(k); !s.Gone() {
				got[m.Groups[i].Queue] = append(got[m.Groups[i].Queue], s.Value)
			}
		}
	}
	for _, values := range got {
		slices.Sort(values)
	}
	return got
}

func TestModelOfTheIndex(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newModel()
		patternToken := rapid.SampledFrom([]string{"a", "b", "c", "*", ">", "a*"})
		subjectToken := rapid.SampledFrom([]string{"a", "b", "c", "*", "a*", "d", ""})
		t.Repeat(map[string]func(*rapid.T){
			"insert": func(t *rapid.T) {
				pattern := strings.Join(rapid.SliceOfN(patternToken, 1, 4).Draw(t, "pattern"), ".")
				if Valid([]byte(pattern)) {
					m.insert(pattern, rapid.SampledFrom([]string{"", "", "q", "r"}).Draw(t, "queue"))
				}
			},
			"insert groups": func(t *rapid.T) {
				pattern := rapid.SampledFrom([]string{"a", "a.b", "*"}).Draw(t, "pattern")
				from := rapid.IntRange(0, 20).Draw(t, "first group")
				for i := range manyBuckets {
					m.insert(pattern, fmt.Sprint("q", from+i))
				}
			},
			"remove many": func(t *rapid.T) {
				for n := rapid.IntRange(0, len(m.subs)).Draw(t, "how many"); n > 0; n-- {
					m.remove(rapid.IntRange(0, len(m.subs)-1).Draw(t, "which"))
				}
			},
			"remove": func(t *rapid.T) {
				if len(m.subs) > 0 {
					m.remove(rapid.IntRange(0, len(m.subs)-1).Draw(t, "which"))
				}
			},
			"": func(t *rapid.T) {
				m.check(t, strings.Join(rapid.SliceOfN(subjectToken, 1, 5).Draw(t, "subject"), "."))
			},
		})
		for len(m.subs) > 0 {
			m.remove(0)
		}
		require.True(t, empty(m.x), "an empty index keeps nodes")
	})
}

func TestIndexWithManyChildren(t *testing.T) {
	m := newModel()
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 30_000 { // more than one table holds
		m.insert(fmt.Sprintf("orders.%d.paid", i), "")
		if i%3 == 0 {
			m.remove(rng.IntN(len(m.subs)))
		}
	}
	m.insert("orders.*.paid", "q")
	for range 100 {
		m.check(t, fmt.Sprintf("orders.%d.paid", rng.IntN(36_000)))
	}
	for len(m.subs) > 0 {
		m.remove(rng.IntN(len(m.subs)))
	}
	m.check(t, "orders.1.paid")
	require.True(t, empty(m.x))
}

func TestRemoveTwiceAndPattern(t *testing.T) {
	x := NewIndex[int]()
	a, b := insert(x, "a.*.>", "", 1), insert(x, "a.*.>", "q", 2)
	require.Equal(t, "a.*.>", b.Pattern())
	require.Equal(t, "q", b.Queue())
	x.Remove(a)
	x.Remove(a)
	require.True(t, a.Gone())
	require.False(t, b.Gone())
	require.Equal(t, 1, x.Len())
}

// A queue group that subscribed with several patterns still gets one message.
func TestGroupWithSeveralPatternsIsOneGroup(t *testing.T) {
	x := NewIndex[int]()
	insert(x, "a.b", "q", 1)
	insert(x, "a.*", "q", 2)
	insert(x, ">", "q", 3)
	insert(x, "a.b", "r", 4)
	var m Matches[int]
	x.Match(&m, []byte("a.b"))
	require.Len(t, m.Groups, 2)
	require.Equal(t, map[string][]int{"q": {1, 2, 3}, "r": {4}}, byQueue(&m))
	require.Panics(t, func() { m.Groups[0].At(3) })
}

// Very many queue groups of one pattern cost each about as much as a few. Somebody may make them to do harm.
func TestVeryManyGroups(t *testing.T) {
	const n = 20_000
	measure := func(groups int) (match time.Duration, allocated uint64) {
		x := NewIndex[int]()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		var subs []*Sub[int]
		for i := range groups {
			subs = append(subs, insert(x, "a", fmt.Sprint("q", i), i), insert(x, "*", fmt.Sprint("q", i), i))
		}
		var m Matches[int]
		match = time.Hour
		for range 5 {
			start := time.Now()
			m.Reset()
			x.Match(&m, []byte("a"))
			match = min(match, time.Since(start))
			require.Len(t, m.Groups, groups)
		}
		for _, s := range subs {
			x.Remove(s)
		}
		runtime.ReadMemStats(&after)
		require.True(t, empty(x))
		return match, after.TotalAlloc - before.TotalAlloc
	}
	few, _ := measure(n / 40)
	many, allocated := measure(n)
	require.Less(t, many, few*40*8, "the time of a match grows with the square of the number of groups")
	require.Less(t, allocated, uint64(n*4<<10))
}

func TestVersionFollowsWhatCouldMatch(t *testing.T) {
	x := NewIndex[int]()
	moves := func(subject string, change func()) bool {
		before := x.Version([]byte(subject))
		change()
		return x.Version([]byte(subject)) != before
	}
	var s *Sub[int]
	require.True(t, moves("orders.eu", func() { s = insert(x, "orders.>", "", 1) }))
	require.True(t, moves("orders", func() { x.Remove(s) }))
	require.True(t, moves("orders", func() { s = insert(x, "*", "", 1) }))
	require.True(t, moves("orders", func() { x.Remove(s) }))
	require.False(t, moves("orders", func() { x.Remove(s) }))
	quiet := 0
	for i := range 100 {
		if !moves("orders", func() { insert(x, fmt.Sprintf("inbox%d.x", i), "", 1) }) {
			quiet++
		}
	}
	require.Greater(t, quiet, 90, "other first tokens leave the version alone, hash collisions aside")
}

// Readers match while writers change other subscriptions: what stays is always found, what was
// never there is not.
func TestMatchBesideChanges(t *testing.T) {
	x := NewIndex[string]()
	for i := range 100 {
		insert(x, fmt.Sprintf("stay.%d", i), "", "stay")
		insert(x, fmt.Sprintf("stay.%d", i), "q", "stay")
	}
	insert(x, "stay.*", "", "stay")
	var stop atomic.Bool
	var writers, readers sync.WaitGroup
	for w := range 3 {
		writers.Go(func() { churn(x, uint64(w)) })
	}
	for r := range 3 {
		readers.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(r), 7))
			var m Matches[string]
			for !stop.Load() {
				m.Reset()
				x.Match(&m, fmt.Appendf(nil, "stay.%d", rng.IntN(100)))
				if found := count(m.Subs, "stay"); found != 2 || len(m.Groups) == 0 {
					t.Errorf("found %d subscriptions and %d groups that stay", found, len(m.Groups))
					return
				}
			}
		})
	}
	writers.Wait()
	stop.Store(true)
	readers.Wait()
	require.Equal(t, 201, x.Len())
}

func count(subs []*Sub[string], value string) (n int) {
	for _, s := range subs {
		if s.Value == value {
			n++
		}
	}
	return n
}

func churn(x *Index[string], seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 3))
	var mine []*Sub[string]
	for range 4000 {
		if len(mine) > 0 && rng.IntN(2) == 0 {
			i := rng.IntN(len(mine))
			x.Remove(mine[i])
			mine = slices.Delete(mine, i, i+1)
			continue
		}
		pattern := []string{"stay.%d", "come.%d.*", "stay.%d.>", "*.%d", "go%d.*"}[rng.IntN(5)]
		mine = append(mine, insert(x, fmt.Sprintf(pattern, rng.IntN(200)), []string{"", "q"}[rng.IntN(2)], "come"))
	}
	for _, s := range mine {
		x.Remove(s)
	}
}

func TestMatchAllocatesNothing(t *testing.T) {
	x := NewIndex[int]()
	insert(x, "orders.*.paid", "", 1)
	insert(x, "orders.eu.paid", "q", 2)
	insert(x, ">", "", 3)
	var m Matches[int]
	subject := []byte("orders.eu.paid")
	require.Zero(t, testing.AllocsPerRun(100, func() {
		m.Reset()
		x.Match(&m, subject)
	}))
}

func BenchmarkMatch(b *testing.B) {
	f := func(name string, fill func(x *Index[int]), subject string) {
		b.Run(name, func(b *testing.B) {
			x := NewIndex[int]()
			fill(x)
			var m Matches[int]
			s := []byte(subject)
			b.ReportAllocs()
			for b.Loop() {
				m.Reset()
				x.Match(&m, s)
			}
		})
	}
	f("one literal", func(x *Index[int]) { insert(x, "orders.eu.paid", "", 1) }, "orders.eu.paid")
	f("nothing", func(x *Index[int]) { insert(x, "orders.eu.paid", "", 1) }, "orders.us.paid")
	f("nothing beside 1,000 others", func(x *Index[int]) {
		for i := range 1000 {
			insert(x, fmt.Sprintf("orders.%d.other", i), "", 1)
		}
	}, "orders.eu-123.paid")
	for _, n := range []int{1000, 10_000} {
		b.Run(fmt.Sprintf("nothing for %d subjects", n), func(b *testing.B) {
			x := NewIndex[int]()
			for i := range 1000 {
				insert(x, fmt.Sprintf("orders.%d.other", i), "", 1)
			}
			var m Matches[int]
			var all [][]byte
			for i := range n {
				all = append(all, fmt.Appendf(nil, "orders.eu-%d.paid", i*7919%n))
			}
			i := 0
			for b.Loop() {
				m.Reset()
				x.Match(&m, all[i])
				if i++; i == n {
					i = 0
				}
			}
		})
	}
	f("wildcards", func(x *Index[int]) {
		for _, p := range []string{"orders.*.paid", "orders.>", "*.eu.*"} {
			insert(x, p, "", 1)
		}
	}, "orders.eu.paid")
	f("100,000 literals", func(x *Index[int]) {
		for i := range 100_000 {
			insert(x, fmt.Sprintf("orders.%d.paid", i), "", 1)
		}
	}, "orders.77777.paid")
}

func BenchmarkInsertRemove(b *testing.B) {
	x := NewIndex[int]()
	for i := range 100_000 {
		insert(x, fmt.Sprintf("_INBOX.%d.*", i), "", 1)
	}
	patterns := make([]string, 1000)
	for i := range patterns {
		patterns[i] = fmt.Sprintf("_INBOX.new%d.*", i)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		x.Remove(insert(x, patterns[i%1000], "", 1))
	}
}

// Patterns that branch in the middle of what others share.
func TestModelOfPatternsThatShareNodes(t *testing.T) {
	patterns := []string{"a.b.c.d", "a.b.c", "a.b", "a.b.x.d", "a.b.*.d", "a.bb", "ab.b", "a.b.c.>", "a", "a.b.c.d.e.f"}
	subjects := []string{"a", "a.b", "a.bb", "ab.b", "a.b.c", "a.b.c.d", "a.b.x.d", "a.b.y.d", "a.b.c.d.e", "a.b.c.d.e.f", "a.b.c.d.e.g", "a.bc"}
	seeds.Each(t, 200, func(t *testing.T, seed uint64) {
		m, rng := newModel(), rand.New(rand.NewPCG(seed, 1))
		for range 20 {
			m.insert(patterns[rng.IntN(len(patterns))], "")
			if rng.IntN(3) == 0 {
				m.remove(rng.IntN(len(m.subs)))
			}
			for _, s := range subjects {
				m.check(t, s)
			}
		}
		for len(m.subs) > 0 {
			m.remove(rng.IntN(len(m.subs)))
			m.check(t, "a.b.c.d")
		}
		require.True(t, empty(m.x))
	})
}

func TestNotesAreKept(t *testing.T) {
	x := NewIndex[int]()
	s := x.Insert([]byte("a.*"), []byte("crew"), []byte("n1"), 7)
	require.Equal(t, []string{"a.*", "crew", "n1"}, []string{s.Pattern(), s.Queue(), s.Note()})
	require.Equal(t, len("a.*crewn1"), s.Size())
	require.Panics(t, func() { x.Insert([]byte("a..b"), nil, nil, 1) })
}
