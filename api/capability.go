package api

// Capability is one thing that a machine can or can't do, as `ten doctor` tells it.
type Capability struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	// Required marks what `ten serve` can't work without.
	Required bool   `json:"required"`
	Detail   string `json:"detail"`        // what was found
	Fix      string `json:"fix,omitempty"` // what to do about it, when not OK
}
