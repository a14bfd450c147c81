// Package upstream speaks HTTP to one backend: HTTP/1.1 over pooled connections that
// the caller drives itself, and HTTP/2 with prior knowledge through net/http.
//
// The HTTP/1.1 side exists because of its cost: no goroutine for a connection, no copy
// of a header, no allocation for a body. A request is written and its response read by
// the goroutine that asks; what it may not do then is wait without a deadline, so every
// exchange has one, and whoever wants to end it early calls [Conn.Abort].
package upstream
