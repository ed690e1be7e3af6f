package partition

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/rafka-mq/rafka/subject"
	"github.com/rafka-mq/rafka/wire"
)

// A topic is bound to subjects: a message published to one of them, in the subject space that all clients
// share, is appended to the topic. By default a topic is bound to its own name. No subject belongs to two
// topics.

// noSubjects is the setting of a topic that is bound to no subject.
const noSubjects = "none"

// maxSubjects bounds the patterns of one topic.
const maxSubjects = 64

// setSubjects accepts patterns separated by commas or spaces, "none", and an empty value for the topic's own
// name.
func setSubjects(c *Config, v string) error {
	list := splitSubjects(v)
	if len(list) > maxSubjects {
		return fmt.Errorf("%d subjects, at most %d are possible", len(list), maxSubjects)
	}
	for _, s := range list {
		if !subject.Valid([]byte(s)) || len(s) > wire.MaxTopicName {
			return fmt.Errorf("%q is not a subject", s)
		}
	}
	c.Subjects = strings.Join(list, ",")
	return nil
}

func splitSubjects(v string) []string {
	return strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == ' ' })
}

// Subjects returns the patterns in a value of the setting subjects.
func Subjects(v string) []string {
	if v == noSubjects {
		return nil
	}
	return splitSubjects(v)
}

// subjects returns the patterns that a topic with this name and configuration is bound to.
func (c *Config) subjects(name string) []string {
	switch c.Subjects {
	case "":
		return []string{name}
	case noSubjects:
		return nil
	}
	return strings.Split(c.Subjects, ",")
}

// bindings are the subjects of the topics that are not bound to their names.
type bindings struct {
	index   *subject.Index[*Topic]
	moves   atomic.Uint64 // counts the topics that have got other subjects
	matches sync.Pool     // of *subject.Matches[*Topic]

	of map[*Topic][]binding // guarded by Registry.mu
}

type binding = *subject.Sub[*Topic]

func newBindings() *bindings {
	return &bindings{
		index: subject.NewIndex[*Topic](), of: map[*Topic][]binding{},
		matches: sync.Pool{New: func() any { return new(subject.Matches[*Topic]) }},
	}
}

// add binds t to the subjects of a configuration, and returns what it was bound to before, for remove. So what it is bound to
// before and after is never unbound meanwhile. The caller holds Registry.mu.
func (b *bindings) add(t *Topic, c *Config) (before []binding) {
	before = b.of[t]
	delete(b.of, t)
	if c.Subjects == "" {
		return before
	}
	var now []binding
	for _, s := range c.subjects(t.name) {
		now = append(now, b.index.Insert([]byte(s), nil, nil, t))
	}
	b.of[t] = now
	return before
}

// remove ends what add has returned.
func (b *bindings) remove(before []binding) {
	b.moves.Add(1)
	for _, s := range before {
		b.index.Remove(s)
	}
}

// find returns the topic of a subject, or nil. A reply subject (_INBOX…) or a system subject ($…) belongs only to
// a topic that spells out its first token: a leading wildcard does not catch it.
func (b *bindings) find(s []byte) *Topic {
	if b.index.Len() == 0 {
		return nil
	}
	m := b.matches.Get().(*subject.Matches[*Topic])
	defer b.matches.Put(m)
	m.Reset()
	b.index.Match(m, s)
	special := bytes.HasPrefix(s, []byte{'$'}) || bytes.HasPrefix(s, []byte("_INBOX"))
	for _, found := range m.Subs {
		if first, _, _ := strings.Cut(found.Pattern(), "."); !special || first != "*" && first != ">" {
			return found.Value
		}
	}
	return nil
}

// Bound returns the topic that a subject belongs to, or nil when it belongs to none. It takes no lock.
func (r *Registry) Bound(s []byte) *Topic {
	for {
		moves := r.bound.moves.Load()
		if t := (*r.byName.Load())[string(s)]; t != nil && t.Config().Subjects == "" {
			return t
		}
		t := r.bound.find(s)
		if t != nil || moves == r.bound.moves.Load() { // otherwise it may belong to a topic that has moved in between
			return t
		}
	}
}

// checkSubjects refuses a topic whose subjects overlap those of another one. topics are all others by their names, and made
// those of them that are not bound yet.
func (r *Registry) checkSubjects(topics map[string]*Topic, made []*Topic, name string, c *Config) error {
	for _, s := range c.subjects(name) {
		other, with := r.rival(topics, made, name, []byte(s))
		if other == nil {
			continue
		}
		return wire.Errorf(wire.CodeInvalid,
			"subject %q of topic %q overlaps %q of topic %q (setting subjects; none binds nothing)",
			s, name, with, other.name)
	}
	return nil
}

// rival returns a topic with another name whose subjects overlap a pattern, and the one that does. It looks at all topics
// only for a pattern with a wildcard.
func (r *Registry) rival(topics map[string]*Topic, made []*Topic, name string, pattern []byte) (*Topic, string) {
	for _, t := range made {
		for _, s := range t.Config().subjects(t.name) {
			if subject.Overlap(pattern, []byte(s)) {
				return t, s
			}
		}
	}
	if subject.Literal(pattern) {
		return r.owner(topics, name, pattern)
	}
	for t, list := range r.bound.of {
		for _, s := range list {
			if t.name != name && subject.Overlap(pattern, []byte(s.Pattern())) {
				return t, s.Pattern()
			}
		}
	}
	for _, t := range topics {
		if t.name != name && t.Config().Subjects == "" && subject.Match(pattern, []byte(t.name)) {
			return t, t.name
		}
	}
	return nil, ""
}

// owner is rival for a pattern without a wildcard.
func (r *Registry) owner(topics map[string]*Topic, name string, literal []byte) (*Topic, string) {
	if t := topics[string(literal)]; t != nil && t.name != name && t.Config().Subjects == "" {
		return t, t.name
	}
	var m subject.Matches[*Topic]
	r.bound.index.Match(&m, literal)
	for _, s := range m.Subs {
		if s.Value.name != name {
			return s.Value, s.Pattern()
		}
	}
	return nil, ""
}
