// Package route decides which instance a request belongs to.
//
// A [Router] holds every service and instance in immutable tries behind atomic
// pointers: a request finds its instance without a lock and without allocating,
// a change copies a handful of small nodes, whatever the number of instances.
//
// Each instance has a gate, one atomic word that holds its state and its number of
// open requests together, so that a request that is being accepted and an instance
// that is being put to sleep can never miss one another.
package route
