package route_test

import (
	"testing"

	"github.com/tenement-fleet/tenement/provider/acctest"
)

func TestMain(m *testing.M) { acctest.Main(m) }
