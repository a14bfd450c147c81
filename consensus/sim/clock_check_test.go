package sim

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c clock
		before := c.now()
		time.Sleep(time.Minute)
		c.set(24 * time.Hour)
		after := c.now()
		if d := after.Sub(before); d != time.Minute {
			t.Errorf("a minute took %s after a jump", d)
		}
		if d := after.Round(0).Sub(before.Round(0)); d != 24*time.Hour+time.Minute {
			t.Errorf("the wall clock moved by %s", d)
		}
		if d := after.UTC().Round(0).Sub(epoch); d != 24*time.Hour+time.Minute {
			t.Errorf("it is %s", after.UTC())
		}
		if !after.Add(time.Second).After(after) || after.Before(before) {
			t.Error("out of order")
		}
	})
}
