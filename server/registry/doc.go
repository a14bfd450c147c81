// Package registry is the Terraform provider as a server hands it out: the package that
// holds the running program itself, those for other platforms that the operator laid
// beside it, their checksums, the signature, and what Terraform's registry and network
// mirror protocols say of them.
//
// What is served is a function of its bytes: two servers of one program and one key serve
// the same packages, checksums and signatures, byte by byte.
package registry
