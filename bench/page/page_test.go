package page

import "testing"

func TestTable(t *testing.T) {
	got := Table([][]string{{"a", "long"}, {"–b", Decimals(.25, 2)}, {"c", Decimals(1, 1)}})
	want := "| a  | long |\n|----|-----:|\n| –b |  .25 |\n| c  |  1.0 |"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
