package plot_test

import (
	"fmt"

	"github.com/filterlens/filterlens/inspect/report/plot"
)

func ExampleParse() {
	for _, word := range []string{"snr.svg", "filter:conv10/37.png", "theta=out/thresholds.svg", "filter:conv10.png"} {
		s, err := plot.Parse(word)
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(s.Kind, s.Format, s.File)
	}
	// Output:
	// snr svg snr.svg
	// filter png filter-conv10-37.png
	// theta svg out/thresholds.svg
	// picture "filter:conv10.png": write filter:LAYER/N with the filter's number, from 0
}
