package api

import (
	"slices"
	"strconv"
	"time"
)

// Fleet keeps Replicas instances of a service: service:NAME-0, service:NAME-1, and so on.
// They share the fleet's Weight of the traffic to {service}.{domain}.
type Fleet struct {
	Service  string `json:"service"`
	Name     string `json:"name"`
	Replicas int    `json:"replicas"`
	// Weight is the share, 0 to 100, that its members have together; null means 100.
	Weight *int `json:"weight"`
	// Placement replaces that of the service; null leaves it.
	Placement *PlacementRules `json:"placement,omitempty"`
	Source    Source          `json:"source"`

	Revision  uint64    `json:"revision,omitempty"`
	CreatedAt time.Time `json:"created_at,omitzero"`
	UpdatedAt time.Time `json:"updated_at,omitzero"`
}

// MaxFleetName leaves room for the number of a member in its name.
const MaxFleetName = MaxNameLen - len("-99999")

// MaxReplicas is the size of the largest fleet.
const MaxReplicas = 100_000

// Ref returns the fleet's name in the form of an instance's: service:name.
func (f *Fleet) Ref() Ref { return Ref{Service: f.Service, ID: f.Name} }

// Member returns the name of the n-th instance, from 0.
func (f *Fleet) Member(n int) Ref {
	return Ref{Service: f.Service, ID: f.Name + "-" + strconv.Itoa(n)}
}

// SetDefaults fills every unset field with its default.
func (f *Fleet) SetDefaults() {
	setDefault(&f.Source, SourceAPI)
	if f.Weight == nil {
		w := DefaultWeight
		f.Weight = &w
	}
}

// Validate checks a fleet after SetDefaults; see [Service.Validate].
func (f *Fleet) Validate() error {
	var c fieldChecks
	c.name("service", f.Service)
	c.name("name", f.Name)
	check(&c, len(f.Name) <= MaxFleetName, "name", f.Name, "at most "+strconv.Itoa(MaxFleetName)+" characters, so that its members' names fit")
	check(&c, f.Replicas >= 0 && f.Replicas <= MaxReplicas, "replicas", f.Replicas, "0 to "+strconv.Itoa(MaxReplicas))
	w := f.EffectiveWeight()
	check(&c, 0 <= w && w <= MaxWeight, "weight", w, "0 to 100")
	check(&c, slices.Contains(Sources(), f.Source), "source", f.Source, oneOf[Source](Sources()))
	f.Placement.check(&c)
	return c.err()
}

// EffectiveWeight returns Weight or its default.
func (f *Fleet) EffectiveWeight() int {
	if f.Weight == nil {
		return DefaultWeight
	}
	return *f.Weight
}

// Equal reports whether two fleets are the same specification.
func (f *Fleet) Equal(o *Fleet) bool {
	return f.Service == o.Service && f.Name == o.Name && f.Replicas == o.Replicas && f.Source == o.Source &&
		f.EffectiveWeight() == o.EffectiveWeight() && f.Placement.Equal(o.Placement)
}

// Clone returns a deep copy.
func (f *Fleet) Clone() *Fleet {
	c := *f
	if f.Weight != nil {
		w := *f.Weight
		c.Weight = &w
	}
	c.Placement = f.Placement.Clone()
	return &c
}
