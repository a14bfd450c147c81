// Package proxy forwards every request to the instance that its host names: it wakes
// the instance if it sleeps, holds the request until it is up, and lets the bytes flow
// both ways. DESIGN.md says why it is built as it is.
package proxy
