// Package config is the broker's configuration: every setting with its key in the file, its flag, its
// default and its check, in one place.
//
// Its nouns: a Config holds the values; a Setting names one of them and can set it from text, in the
// same way for the file, the environment and the command line; Load reads a file.
//
//	c := config.Default()
//	if err := c.Load("config/rafka.yml"); err != nil { … } // *config.FileError marks the line
//
// The file is read strictly: a key nobody knows is refused, with the nearest known key as a
// suggestion. The package starts nothing and knows no flags library; it says what a setting is
// called, and the command line binds it. rafka.yml in this folder documents every key.
package config
