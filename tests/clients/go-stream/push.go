package main

import (
	"context"
	"fmt"
	"log"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"orchy.test/client/api"
)

const (
	pushTimeoutMin   = time.Second
	pushTimeoutMax   = 10 * time.Second
	againMin         = 50 * time.Millisecond
	againMax         = 2 * time.Second
	resultsInMessage = 100
	bytesInMessage   = 2 << 20
)

// pushLater has a result brought home by a call. The caller has the lock.
func (w *Worker) pushLater(held *attempt) {
	w.lost = append(w.lost, held)
	select {
	case w.lostCame <- struct{}{}:
	default:
	}
}

// push brings results home that no stream did, until the context ends.
func (w *Worker) push(ctx context.Context) {
	for {
		select {
		case <-w.lostCame:
		case <-ctx.Done():
			return
		}
		for {
			w.mu.Lock()
			batch := cut(&w.lost)
			w.mu.Unlock()
			if len(batch) == 0 {
				break
			}
			w.pushBatch(ctx, batch)
		}
	}
}

// cut takes as many results off a list as one message may carry: a large one travels alone.
func cut(list *[]*attempt) []*attempt {
	count, size := 0, 0
	for count < len(*list) && count < resultsInMessage {
		size += proto.Size((*list)[count].result)
		if count > 0 && size > bytesInMessage {
			break
		}
		count++
	}
	batch := (*list)[:count:count]
	*list = (*list)[count:]
	return batch
}

func (w *Worker) pushBatch(ctx context.Context, batch []*attempt) {
	again, limit := againMin, pushTimeoutMin
	for ctx.Err() == nil {
		for _, address := range w.servers("") {
			client, err := w.client(address)
			if err != nil {
				continue
			}
			limited, cancel := context.WithTimeout(ctx, limit)
			err = w.offer(limited, client, batch)
			cancel()
			if err == nil {
				return
			}
			log.Printf("results are pushed again, %s did not take them: %v", address, err)
			limit = min(2*limit, pushTimeoutMax)
		}
		select {
		case <-time.After(time.Duration(float64(again) * (0.5 + rand.Float64()/2))):
		case <-ctx.Done():
		}
		again = min(2*again, againMax)
	}
}

// offer returns an error when the server said nothing of the single results.
func (w *Worker) offer(ctx context.Context, client api.ActionServiceClient, batch []*attempt) error {
	if len(batch) == 1 {
		answer, err := client.Push(ctx, batch[0].result)
		code := status.Code(err)
		if err != nil && code != codes.InvalidArgument && code != codes.ResourceExhausted {
			return err
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.settle(batch[0], code, status.Convert(err).Message(), answer.GetStatus())
		return nil
	}
	results := &api.ActionResults{}
	for _, held := range batch {
		results.Results = append(results.Results, held.result)
	}
	answer, err := client.PushAll(ctx, results)
	if status.Code(err) == codes.Unimplemented { // an older server
		for len(batch) > 0 && w.offer(ctx, client, batch[:1]) == nil {
			batch = batch[1:]
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, held := range batch {
			w.pushLater(held)
		}
		return nil
	}
	if err != nil {
		return err
	}
	if len(answer.Outcomes) != len(batch) {
		return fmt.Errorf("%d outcomes for %d results", len(answer.Outcomes), len(batch))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, outcome := range answer.Outcomes {
		w.settle(batch[i], codes.Code(outcome.Code), outcome.Message, outcome.Status)
	}
	return nil
}
