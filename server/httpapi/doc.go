// Package httpapi is the HTTP API of a node: everything under /api, /metrics and /health.
//
// [table] lists every endpoint once: method, path, access, handler. The routes, the
// OpenAPI document and the test of every route against every role are made from it.
// A request passes through the same steps whatever its endpoint (serve in endpoint.go):
// who is it, may they, is the query known, wait for the index if asked to, read the body,
// run the handler, answer, and write the audit log if it was a mutation. Handlers get
// checked input and return a value or an error; they don't touch the connection.
//
// Errors are problem documents (RFC 9457) without exception, those of the router and of a
// panic included. Every reply carries the index of the state that it was made from.
package httpapi
