// Package auth decides who may connect and what they may do.
//
// Its nouns: a Policy is everything that is configured, made from a Config and never changed;
// Credentials are what a connection says about itself; a Principal is who it turned out to be, with
// what that user may do.
//
//	p, err := auth.New(auth.Config{Users: []auth.User{{Name: "ann", Password: "s3cret"}}})
//	who, err := p.Login(&auth.Credentials{User: "ann", Password: "s3cret"})
//	who.MayPublish([]byte("orders.eu"))
//
// Login may take a tenth of a second, because password hashes are slow on purpose, and belongs on a
// goroutine that nobody waits for. A Principal's methods are fast and safe for concurrent use.
//
// The package opens no socket and reads no file.
package auth
