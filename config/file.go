package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/printer"
	"github.com/goccy/go-yaml/token"
)

// maxFileBytes bounds the size of a configuration file. A larger file is not a configuration.
const maxFileBytes = 1 << 20

// FileError says where and why a configuration file is not valid.
type FileError struct {
	Path         string
	Line, Column int    // from 1; 0 when the error concerns the whole file
	Reason       string // one line
	Excerpt      string // the lines around the error with a mark below it; may be empty
}

// Error returns the place and the reason in one line, without the excerpt.
func (e *FileError) Error() string {
	if e.Line == 0 {
		return e.Path + ": " + e.Reason
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.Path, e.Line, e.Column, e.Reason)
}

// Load reads the file at path into c. Keys that are absent keep their values. For a file that is
// not valid, Load returns a *FileError and leaves c unchanged.
func (c *Config) Load(path string) error {
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read configuration: %w", err)
	}
	var b []byte
	if err == nil {
		defer func() { _ = file.Close() }()
		b, err = io.ReadAll(io.LimitReader(file, maxFileBytes+1))
	}
	if err != nil {
		return &FileError{Path: path, Reason: cannotRead(err)}
	}
	if len(b) > maxFileBytes {
		return &FileError{Path: path, Reason: "more than 1 MiB is too much for a configuration file"}
	}
	return c.parse(path, bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))) // editors on Windows write that mark
}

// cannotRead returns why a file cannot be read, without its name.
func cannotRead(err error) string {
	if e, ok := errors.AsType[*os.PathError](err); ok {
		err = e.Err
	}
	return "cannot be read: " + err.Error()
}

func (c *Config) parse(path string, b []byte) error {
	loaded := *c
	f := file{path: path, source: b, settings: make(map[string]Setting), sections: make(map[string]bool), given: make(map[any]string)}
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

const noAnchors = "YAML's anchors, aliases and tags have no meaning here"

// file is a configuration file that is being read.
type file struct {
	path     string
	source   []byte
	settings map[string]Setting
	sections map[string]bool
	blocks   map[string]any // where to decode keys whose values are not scalars
	keys     []string       // all keys and sections, for suggestions
	given    map[any]string // what the file has set so far, by key or by place, and by which of its names
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
		return f.notYAML(f.syntax(err))
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

// section reads the keys of a mapping. prefix is "", or the name of a section and a dot.
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
		return f.notYAML(f.refuse(n.GetToken(), "keys and values are expected here"))
	}
}

func (f *file) pair(prefix string, kv *ast.MappingValueNode) error {
	tok := kv.Key.GetToken()
	key := prefix + tok.Value
	written := key
	_, plain := kv.Value.(ast.ScalarNode)
	_, block := f.blocks[key]
	if t := kv.Value.Type(); !block && (t == ast.AnchorType || t == ast.AliasType || t == ast.TagType) {
		return f.refuse(kv.Value.GetToken(), noAnchors)
	}
	if _, both := aliases[key]; f.sections[key] && (!both || !plain) {
		return f.section(key+".", kv.Value)
	}
	if block, ok := f.blocks[key]; ok {
		if err := f.once(tok, block, written); err != nil {
			return err
		}
		return f.decode(kv.Value, block)
	}
	if name, ok := aliases[key]; ok {
		key = name
	}
	s, ok := f.settings[key]
	if !ok {
		return f.refuse(tok, unknown(key, f.keys))
	}
	if err := f.once(tok, key, written); err != nil {
		return err
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

// once refuses a setting that the file has set already, by another of its names.
func (f *file) once(tok *token.Token, setting any, written string) error {
	if other, twice := f.given[setting]; twice {
		return f.refuse(tok, fmt.Sprintf("%s and %s are the same setting", other, written))
	}
	f.given[setting] = written
	return nil
}

// decode reads a value that is not a scalar. It refuses unknown keys.
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
		Reason: reason, Excerpt: withoutSecrets(p.PrintErrorToken(tok, false), f.source),
	}
}

// notYAML adds to a FileError what the file should look like. People come with the files of other programs.
func (f *file) notYAML(err error) error {
	if e, ok := errors.AsType[*FileError](err); ok {
		e.Reason += "; the file is YAML: key: value"
	}
	return err
}

// syntax turns an error of the parser into a FileError.
func (f *file) syntax(err error) error {
	e, ok := errors.AsType[yaml.Error](err)
	if !ok || e.GetToken() == nil {
		return &FileError{Path: f.path, Reason: err.Error()}
	}
	return f.refuse(e.GetToken(), reason(e))
}

// reason returns the message of an error, in words that do not need Go's types.
func reason(err yaml.Error) string {
	switch e := err.(type) {
	case *yaml.UnknownFieldError:
		return unknownInside(e.Token.Value)
	case *yaml.UnexpectedNodeTypeError:
		switch e.Expected {
		case ast.SequenceType:
			return "a list is expected here"
		case ast.StringType:
			return "one plain value is expected here"
		}
		return "keys and values are expected here"
	case *yaml.TypeError:
		if e.DstType.Kind() == reflect.Int {
			return "a whole number is expected here"
		}
		return "one plain value is expected here"
	case *yaml.OverflowError:
		return "this number is too large"
	}
	return err.GetMessage()
}
