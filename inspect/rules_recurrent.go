package inspect

// recurrentRule is that of LSTM, GRU and RNN: outputs Y (of every step), Y_h
// and, of an LSTM, Y_c (of the last step).
func recurrentRule(c *call) {
	r := c.in(2)
	hidden := term{}
	if h := c.AttrInt("hidden_size", 0); h > 0 {
		hidden = integer(h)
	} else if r.known && len(r.shape) == 3 {
		hidden = r.shape[2]
	}
	directions := term{}
	switch c.AttrString("direction", "forward") {
	case "forward", "reverse":
		directions = integer(1)
	case "bidirectional":
		directions = integer(2)
	}
	recurrent(c, directions, hidden, c.AttrInt("layout", 0) != 0)
}

func recurrent(c *call, directions, hidden term, batchFirst bool) {
	x := c.in(0)
	steps, batch := term{}, term{}
	if x.known {
		if len(x.shape) != 3 {
			return
		}
		steps, batch = x.shape[0], x.shape[1]
		if batchFirst {
			steps, batch = batch, steps
		}
	}
	all, last := []term{steps, directions, batch, hidden}, []term{directions, batch, hidden}
	if batchFirst {
		all, last = []term{batch, steps, directions, hidden}, []term{batch, directions, hidden}
	}
	c.shape(0, x.dtype, all)
	c.shape(1, x.dtype, last)
	c.shape(2, x.dtype, last)
}
