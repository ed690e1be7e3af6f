package config

import (
	"errors"
	"fmt"
	"os"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/printer"
	"github.com/goccy/go-yaml/token"
)

// maxFileBytes bounds a configuration file: one that is larger is some other file.
const maxFileBytes = 1 << 20

// FileError says why and where a configuration file was refused.
type FileError struct {
	Path         string
	Line, Column int    // from 1; 0 when the whole file is meant
	Reason       string // one line
	Excerpt      string // the lines around the place with a mark under it; may be empty
}

// Error returns the place and the reason in one line, without the excerpt.
func (e *FileError) Error() string {
	if e.Line == 0 {
		return e.Path + ": " + e.Reason
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.Path, e.Line, e.Column, e.Reason)
}

// Load reads the file at path over c: a key that is absent keeps its value. It returns a *FileError for a
// file that is not valid, and then leaves c unchanged.
func (c *Config) Load(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	if info.Size() > maxFileBytes {
		return &FileError{Path: path, Reason: fmt.Sprintf("%d bytes are too many for a configuration file", info.Size())}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	return c.parse(path, b)
}

func (c *Config) parse(path string, b []byte) error {
	loaded := *c
	f := file{path: path, settings: make(map[string]Setting), sections: make(map[string]bool)}
	for _, s := range loaded.Settings() {
		f.add(s)
	}
	for alias := range aliases {
		f.keys = append(f.keys, alias)
	}
	users := loaded.users()
	f.blocks = users.blocks()
	f.blocks["tls.pinned_certs"] = &loaded.TLS.PinnedCerts
	for key := range f.blocks {
		f.keys = append(f.keys, key)
	}
	f.sections["authorization"], f.sections["lame_duck"] = true, true
	if err := f.read(b); err != nil {
		return err
	}
	users.apply(&loaded.Auth)
	*c = loaded
	return nil
}

// file is the reading of one configuration file.
type file struct {
	path     string
	settings map[string]Setting
	sections map[string]bool
	blocks   map[string]any // where to decode a key that is more than one value
	keys     []string       // every key and section, for suggestions
}

func (f *file) add(s Setting) {
	section, _ := cutKey(s.Key)
	f.settings[s.Key] = s
	f.keys = append(f.keys, s.Key)
	if !f.sections[section] {
		f.sections[section] = true
		f.keys = append(f.keys, section)
	}
}

func (f *file) read(b []byte) error {
	doc, err := parser.ParseBytes(b, 0)
	if err != nil {
		return f.syntax(err)
	}
	seen := false
	for _, d := range doc.Docs {
		if d.Body == nil || d.Body.Type() == ast.CommentType {
			continue
		}
		if seen {
			return f.refuse(d.Body.GetToken(), "a second document; a configuration file has one")
		}
		seen = true
		if err := f.section("", d.Body); err != nil {
			return err
		}
	}
	return nil
}

// section walks the keys of one mapping. prefix is "" or a section's name and a dot.
func (f *file) section(prefix string, n ast.Node) error {
	switch n := n.(type) {
	case *ast.NullNode:
		return nil
	case *ast.MappingNode:
		for _, kv := range n.Values {
			if err := f.pair(prefix, kv); err != nil {
				return err
			}
		}
		return nil
	case *ast.MappingValueNode:
		return f.pair(prefix, n)
	default:
		return f.refuse(n.GetToken(), "keys and values are expected here")
	}
}

func (f *file) pair(prefix string, kv *ast.MappingValueNode) error {
	tok := kv.Key.GetToken()
	key := prefix + tok.Value
	_, plain := kv.Value.(ast.ScalarNode)
	if _, both := aliases[key]; f.sections[key] && (!both || !plain) {
		return f.section(key+".", kv.Value)
	}
	if block, ok := f.blocks[key]; ok {
		return f.decode(kv.Value, block)
	}
	if name, ok := aliases[key]; ok {
		key = name
	}
	s, ok := f.settings[key]
	if !ok {
		return f.refuse(tok, unknown(key, f.keys))
	}
	if kv.Value.Type() == ast.NullType {
		return nil
	}
	if !plain {
		return f.refuse(kv.Value.GetToken(), fmt.Sprintf("%s takes one plain value", key))
	}
	if err := s.Value.Set(kv.Value.GetToken().Value); err != nil {
		return f.refuse(kv.Value.GetToken(), fmt.Sprintf("%s: %v", key, err))
	}
	return nil
}

// decode reads what is more than one value. Keys that are not known are refused.
func (f *file) decode(n ast.Node, into any) error {
	if n.Type() == ast.NullType {
		return nil
	}
	if err := yaml.NodeToValue(n, into, yaml.Strict()); err != nil {
		return f.syntax(err)
	}
	return nil
}

func (f *file) refuse(tok *token.Token, reason string) error {
	var p printer.Printer
	return &FileError{
		Path: f.path, Line: tok.Position.Line, Column: tok.Position.Column,
		Reason: reason, Excerpt: p.PrintErrorToken(tok, false),
	}
}

// syntax turns the parser's error into a FileError.
func (f *file) syntax(err error) error {
	e, ok := errors.AsType[yaml.Error](err)
	if !ok || e.GetToken() == nil {
		return &FileError{Path: f.path, Reason: err.Error()}
	}
	return f.refuse(e.GetToken(), e.GetMessage())
}
