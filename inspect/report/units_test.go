package report

import (
	"math"
	"testing"
	"time"
)

func TestUnits(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{Count(0).Text, "0"},
		{Count(999).Text, "999"},
		{Count(1000).Text, "1,000"},
		{Count(138357544).Text, "138,357,544"},
		{Count(-1234).Text, "-1,234"},
		{Count(math.MaxInt64).Text, "9,223,372,036,854,775,807"},
		{Scaled(0).Text, "0"},
		{Scaled(999).Text, "999"},
		{Scaled(15470264320).Text, "15.47 G"},
		{Scaled(385814752).Text, "385.8 M"},
		{Scaled(999999).Text, "1.000 M"},
		{Scaled(math.MaxInt64).Text, "9.223 E"},
		{Bytes(0).Text, "0 B"},
		{Bytes(553433921).Text, "553.4 MB"},
		{Bytes(1000).Text, "1.000 kB"},
		{Share(0.12345).Text, "12.35 %"},
		{Number(1.005, 1).Text, "1.0"},
		{milliseconds(0.1234).Text, "0.12"},
		{milliseconds(12.345).Text, "12.3"},
		{milliseconds(1234.5).Text, "1234"},
		{optional(nil, Share, absent).Text, "unknown"},
		{Seconds(400 * time.Millisecond), "0.4 s"},
		{Seconds(59600 * time.Millisecond), "1 min 0 s"},
		{Seconds(200 * time.Second), "3 min 20 s"},
		{Seconds(7500 * time.Second), "2 h 5 min"},
		{plural(1, "node"), "1 node"},
		{plural(1200, "node"), "1,200 nodes"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
	if raw := Share(0.12345).Raw; raw != 0.12345 {
		t.Errorf("raw value %v is rounded", raw)
	}
}
