package partition

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

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

// bindings are the subjects of the topics that are not bound to their names. A bindings value is not changed
// once it is published.
type bindings struct {
	topics  []*Topic
	literal map[string]*Topic    // subjects without a wildcard
	byFirst map[string][]binding // other patterns by their first token
	any     []binding            // patterns that begin with a wildcard
}

type binding struct {
	pattern []byte
	topic   *Topic
}

func newBindings(topics map[string]*Topic) *bindings {
	b := &bindings{literal: map[string]*Topic{}, byFirst: map[string][]binding{}}
	for _, t := range topics {
		c := t.Config()
		if c.Subjects == "" {
			continue
		}
		b.topics = append(b.topics, t)
		for _, s := range c.subjects(t.name) {
			b.add(s, t)
		}
	}
	return b
}

func (b *bindings) add(pattern string, t *Topic) {
	first, _, _ := strings.Cut(pattern, ".")
	switch {
	case subject.Literal([]byte(pattern)):
		b.literal[pattern] = t
	case first == "*" || first == ">":
		b.any = append(b.any, binding{[]byte(pattern), t})
	default:
		b.byFirst[first] = append(b.byFirst[first], binding{[]byte(pattern), t})
	}
}

// find returns the topic of a subject, or nil. A reply subject (_INBOX…) or a system subject ($…) belongs only to
// a topic that spells out its first token: a leading wildcard does not catch it.
func (b *bindings) find(s []byte) *Topic {
	if t := b.literal[string(s)]; t != nil {
		return t
	}
	if len(b.byFirst)+len(b.any) == 0 {
		return nil
	}
	first, _, _ := bytes.Cut(s, []byte{'.'})
	for _, l := range b.byFirst[string(first)] {
		if subject.Match(l.pattern, s) {
			return l.topic
		}
	}
	if len(first) > 0 && first[0] == '$' || bytes.HasPrefix(first, []byte("_INBOX")) {
		return nil
	}
	for _, l := range b.any {
		if subject.Match(l.pattern, s) {
			return l.topic
		}
	}
	return nil
}

// Bound returns the topic that a subject belongs to, or nil when it belongs to none. It takes no lock.
func (r *Registry) Bound(s []byte) *Topic {
	for {
		b := r.bound.Load()
		if t := (*r.byName.Load())[string(s)]; t != nil && t.Config().Subjects == "" {
			return t
		}
		if t := b.find(s); t != nil || b == r.bound.Load() { // otherwise the topic may have changed in between
			return t
		}
	}
}

// rebind makes the bindings anew after topics have changed. The caller holds mu.
func (r *Registry) rebind() { r.bound.Store(newBindings(*r.byName.Load())) }

// bindMore adds the subjects of a configuration that t is about to get, so that those it has already are never unbound
// meanwhile; rebind follows. The caller holds mu.
func (r *Registry) bindMore(t *Topic, c *Config) {
	b := newBindings(*r.byName.Load())
	for _, s := range c.subjects(t.name) {
		b.add(s, t)
	}
	r.bound.Store(b)
}

// checkSubjects refuses a topic whose subjects overlap those of another topic. bound are the topics that are not
// bound to their names.
func checkSubjects(topics map[string]*Topic, bound []*Topic, name string, c *Config) error {
	others := slices.Values(bound)
	if c.Subjects != "" { // two topics bound to their names cannot overlap: no name is used twice
		others = maps.Values(topics)
	}
	for t := range others {
		if t.name == name {
			continue
		}
		for _, s := range c.subjects(name) {
			for _, other := range t.Config().subjects(t.name) {
				if subject.Overlap([]byte(s), []byte(other)) {
					return wire.Errorf(wire.CodeInvalid,
						"subject %q of topic %q overlaps %q of topic %q (setting subjects; none binds nothing)",
						s, name, other, t.name)
				}
			}
		}
	}
	return nil
}
