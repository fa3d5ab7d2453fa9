// Posts bodies of a size to a URL, each followed by a question, over one client, and counts what came.
package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
)

func main() {
	size, _ := strconv.Atoi(os.Args[2])
	count, _ := strconv.Atoi(os.Args[3])
	large := bytes.Repeat([]byte("x"), size)
	refused, answered := map[string]int{}, map[string]int{}
	for i := 0; i < count; i++ {
		refused[post(os.Args[1], large)]++
		answered[post(os.Args[1], []byte(`{"number": 17}`))]++
	}
	for _, seen := range []map[string]int{refused, answered} {
		for status, times := range seen {
			fmt.Printf("%s: %d\n", status, times)
		}
	}
}

func post(url string, body []byte) string {
	answer, err := http.Post(url, "application/json", bytes.NewReader(body))
	if err != nil {
		return err.Error()
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return err.Error()
	}
	return strconv.Itoa(answer.StatusCode)
}
