// Package secret derives everything that makes servers one cluster from the cluster's
// secret: the key of gossip, the certificate authority of the peer port, the key that
// seals stored values. Every node derives the same, so that none has to ask another.
//
// A [Keyring] holds the secret, or two of them while one is being replaced. A [JoinToken]
// is what a new node is given.
//
// The derivations are part of the format of clusters: testdata/golden.json must hold for
// ever.
package secret
