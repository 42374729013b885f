package main

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"orchy.test/client/api"
)

const (
	answerWithin        = 5 * time.Second
	goodbyeWithin       = time.Second
	attemptsInMessage   = 1000
	messagesUnanswered  = 16
	resultsUnpushedMost = 100
)

type sent struct {
	at       time.Time
	results  []*attempt
	extended []key
}

// session is one stream. The worker's lock guards all of it.
type session struct {
	worker *Worker
	wake   chan struct{}

	number   int64
	credits  map[string]int32
	owed     map[string]int32 // credit that waits for results to be answered
	ready    []*attempt
	holding  []*attempt
	missing  []*api.Attempt
	asked    []*attempt
	answers  map[int64]sent
	lease    time.Duration
	sign     bool
	leaving  bool // goodbye is to be said
	saidAt   time.Time
	heard    bool // the server's goodbye
	finished bool // our side has ended
}

// work is a stream from its first message to its end; nil: it ended well.
func (w *Worker) work(ctx context.Context, client api.ActionServiceClient) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := client.Work(ctx)
	if err != nil {
		return err
	}
	s := &session{
		worker: w, wake: make(chan struct{}, 1), credits: map[string]int32{}, owed: map[string]int32{},
		answers: map[int64]sent{},
	}
	w.mu.Lock()
	w.session = s
	for _, held := range w.held {
		s.holding = append(s.holding, held)
	}
	for name, known := range w.actions {
		s.credit(name, int32(known.hands-known.running))
	}
	if w.stopping {
		s.sayGoodbye()
	}
	s.tell()
	w.mu.Unlock()

	go s.write(ctx, stream)
	go s.lookAtTime(ctx)
	go func() {
		for ctx.Err() == nil {
			select {
			case <-time.After(refreshEvery):
				_ = w.learn(ctx, client)
			case <-ctx.Done():
			}
		}
	}()
	for {
		message, err := stream.Recv()
		w.mu.Lock()
		if err == nil {
			s.take(message)
			w.mu.Unlock()
			continue
		}
		w.session = nil
		for _, held := range s.ready {
			w.pushLater(held)
		}
		for _, left := range s.answers {
			s.handOver(left)
		}
		w.mu.Unlock()
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	}
}

// What is to be said. Callers have the lock.

func (s *session) tell() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *session) credit(name string, count int32) {
	s.credits[name] += count
	s.tell()
}

// takes says whether a result can travel on this stream.
func (s *session) takes(held *attempt) bool {
	return !s.finished && proto.Size(held.result) <= bytesInMessage
}

func (s *session) bring(held *attempt) {
	s.ready = append(s.ready, held)
	if len(s.ready)+len(s.worker.lost) < resultsUnpushedMost {
		s.credit(held.name, 1)
	} else {
		s.owed[held.name]++
	}
	s.tell()
}

func (s *session) sayGoodbye() {
	s.leaving = true
	s.tell()
}

func (s *session) next() *api.WorkerMessage {
	w := s.worker
	goodbye := s.leaving && s.saidAt.IsZero()
	roomy := len(s.answers) < messagesUnanswered
	if len(s.credits) == 0 && !(roomy && len(s.ready)+len(w.extensions) > 0) && len(s.holding)+len(s.missing)+len(s.asked) == 0 &&
		!s.sign && !goodbye {
		return nil
	}
	s.number++
	message := &api.WorkerMessage{Number: s.number, Goodbye: goodbye}
	if s.number == 1 {
		message.WorkerId, message.Renews = w.id, true
	}
	if goodbye {
		s.saidAt = time.Now()
	}
	s.sign = false
	for name, count := range s.credits {
		if count != 0 && !s.leaving {
			message.Credits = append(message.Credits, &api.Credit{ActionName: name, Count: count})
		}
	}
	clear(s.credits)
	s.holding = append(s.holding, s.asked...)
	s.asked = nil
	for len(s.holding) > 0 && len(message.Holding) < attemptsInMessage {
		message.Holding = append(message.Holding, s.holding[0].message())
		s.holding = s.holding[1:]
	}
	count := min(len(s.missing), attemptsInMessage)
	message.Missing, s.missing = s.missing[:count], s.missing[count:]
	message.UpMillis = time.Since(w.began).Milliseconds()
	if roomy {
		unanswered := sent{at: time.Now(), results: cut(&s.ready)}
		for _, held := range unanswered.results {
			message.Results = append(message.Results, held.result)
		}
		for id := range w.extensions {
			if len(message.Extend) == attemptsInMessage {
				break
			}
			delete(w.extensions, id)
			unanswered.extended = append(unanswered.extended, id)
			message.Extend = append(message.Extend, &api.Attempt{FlowId: id.flow, ActionId: id.action, RetryCount: id.number})
		}
		if len(message.Results)+len(message.Extend) > 0 {
			s.answers[s.number] = unanswered
		}
	}
	return message
}

// isDone says whether our side may end.
func (s *session) isDone() bool {
	if s.saidAt.IsZero() || len(s.ready)+len(s.answers) > 0 {
		return false
	}
	if s.worker.stopping && len(s.worker.held) > 0 {
		return false
	}
	return s.heard || time.Since(s.saidAt) > goodbyeWithin
}

func (s *session) write(ctx context.Context, stream api.ActionService_WorkClient) {
	for {
		select {
		case <-s.wake:
		case <-ctx.Done():
			return
		}
		for {
			s.worker.mu.Lock()
			message := s.next()
			s.finished = message == nil && s.isDone()
			finished := s.finished
			s.worker.mu.Unlock()
			if finished {
				_ = stream.CloseSend()
				return
			}
			if message == nil {
				break
			}
			if stream.Send(message) != nil {
				return // Recv says why
			}
		}
	}
}

func (s *session) lookAtTime(ctx context.Context) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	signed := time.Now()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		s.worker.mu.Lock()
		if s.lease > 0 && time.Since(signed) > s.lease/4 {
			signed = time.Now()
			s.sign = true
		}
		for number, left := range s.answers {
			if time.Since(left.at) > answerWithin {
				delete(s.answers, number)
				s.handOver(left)
			}
		}
		s.tell()
		s.worker.mu.Unlock()
	}
}

// handOver gives back what a message brought and nobody answered.
func (s *session) handOver(left sent) {
	for _, held := range left.results {
		s.worker.pushLater(held)
	}
	for _, id := range left.extended {
		if held := s.worker.held[id]; held != nil && held.result == nil {
			s.worker.extensions[id] = true
		}
	}
}

// What the server says.

func (s *session) take(message *api.ServerMessage) {
	w := s.worker
	for _, arrived := range message.Actions {
		w.begin(arrived)
	}
	if message.LeaseMillis > 0 {
		s.lease = time.Duration(message.LeaseMillis) * time.Millisecond
	}
	for _, asked := range message.Asks {
		if held := w.held[key{asked.FlowId, asked.ActionId, asked.RetryCount}]; held != nil {
			s.asked = append(s.asked, held)
		} else {
			s.missing = append(s.missing, asked)
		}
	}
	for _, taken := range message.Taken {
		left := s.answers[taken.Number]
		if len(left.extended) == 0 {
			delete(s.answers, taken.Number)
		} else {
			s.answers[taken.Number] = sent{at: left.at, extended: left.extended}
		}
		for i, held := range left.results {
			if len(taken.Outcomes) != len(left.results) {
				w.pushLater(held)
				continue
			}
			outcome := taken.Outcomes[i]
			w.settle(held, codes.Code(outcome.Code), outcome.Message, outcome.Status)
		}
	}
	for _, extended := range message.Extended {
		left := s.answers[extended.Number]
		if len(left.results) == 0 {
			delete(s.answers, extended.Number)
		} else {
			s.answers[extended.Number] = sent{at: left.at, results: left.results}
		}
		for i, id := range left.extended {
			if held := w.held[id]; held != nil && i < len(extended.Extended) && !extended.Extended[i] {
				held.cancel()
			}
		}
	}
	if len(s.ready)+len(w.lost) < resultsUnpushedMost {
		for name, count := range s.owed {
			s.credit(name, count)
		}
		clear(s.owed)
	}
	if message.Goodbye {
		s.heard = true
		s.sayGoodbye()
	}
	s.tell()
}
