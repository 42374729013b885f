// A worker on a stream that knows of Orchy only what docs/protocol.md says: `worker [-ca FILE] ADDRESS...`.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"math"
	"os"
	"os/signal"
	"syscall"
	"time"

	"google.golang.org/grpc/credentials"

	"orchy.test/client/api"
)

// slow works for as many seconds as it is told, and says now and then that it goes on.
func slow(ctx context.Context, job *Job) (map[string]any, error) {
	seconds, _ := job.Data["seconds"].(float64)
	end := time.After(time.Duration(seconds * float64(time.Second)))
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-end:
			return map[string]any{"attempt": job.Action.RetryCount}, nil
		case <-tick.C:
			job.Extend()
		case <-ctx.Done():
			return nil, errors.New("it took too long")
		}
	}
}

func main() {
	authority := flag.String("ca", "", "speak TLS, to servers whose certificates are of this authority")
	flag.Parse()
	worker := NewWorker(fmt.Sprintf("go-%d", os.Getpid()), 30*time.Second, flag.Args()...)
	if *authority != "" {
		trusting, err := credentials.NewClientTLSFromFile(*authority, "")
		if err != nil {
			log.Fatal(err)
		}
		worker.credentials = trusting
	}
	define := func(name string, hands int, timeoutSeconds int32, function Function) {
		definition := &api.ActionDefinition{Name: name, RetryCount: 3, RetryPolicy: "FIXED", TimeoutSeconds: timeoutSeconds}
		worker.Action(definition, hands, function)
	}
	define("add", 4, 60, func(_ context.Context, job *Job) (map[string]any, error) {
		time.Sleep(20 * time.Millisecond)
		n, _ := job.Data["n"].(float64)
		return map[string]any{"n": n + 1}, nil
	})
	define("slow", 2, 8, slow)
	define("steady", 2, 600, func(_ context.Context, job *Job) (map[string]any, error) {
		seconds, _ := job.Data["seconds"].(float64)
		time.Sleep(time.Duration(seconds * float64(time.Second)))
		return map[string]any{"attempt": job.Action.RetryCount}, nil
	})
	define("echo", 1, 60, func(_ context.Context, job *Job) (map[string]any, error) { return job.Data, nil })
	define("fail", 1, 60, func(context.Context, *Job) (map[string]any, error) { return nil, errors.New("no such user") })
	define("nan", 1, 60, func(context.Context, *Job) (map[string]any, error) {
		return map[string]any{"n": math.NaN()}, nil
	})
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	worker.Run(ctx)
	log.Print("stopped")
}
