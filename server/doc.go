// Package server is the composition root: it builds the parts of a node, joins them by
// the small interfaces that each declares, starts them in order and stops them in
// reverse. It also replaces a running server by its successor without a failed request.
package server
