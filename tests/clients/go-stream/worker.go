// A worker library in Go, as small as docs/protocol.md allows: one stream at a time, to one server or another.
package main

import (
	"context"
	"fmt"
	"log"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/protobuf/types/known/structpb"

	"orchy.test/client/api"
)

const (
	callTimeout  = 5 * time.Second
	refreshEvery = 3 * time.Second
	pauseMin     = 100 * time.Millisecond
	pauseMax     = 3 * time.Second
	// A stream that stood for less counts as a failure: the pause goes on growing.
	stoodMin     = time.Second
	receiveBytes = 64 << 20
)

// Job is what a function gets beside its context, which ends when the attempt is over.
type Job struct {
	Data   map[string]any
	Action *api.Action
	Extend func() // the attempt's time begins anew; does not wait
}

// Function is a user action.
type Function func(ctx context.Context, job *Job) (map[string]any, error)

// key is the identity of an attempt.
type key struct {
	flow           string
	action, number int32
}

// attempt is held from when it arrives until a server has answered for its result.
type attempt struct {
	key
	name   string
	result *api.ActionResult // nil while the function runs
	cancel context.CancelFunc
}

func (a *attempt) message() *api.Attempt {
	return &api.Attempt{FlowId: a.flow, ActionId: a.action, RetryCount: a.number}
}

type action struct {
	definition *api.ActionDefinition
	function   Function
	hands      int
	running    int
}

// Worker has the attempts; streams come and go.
type Worker struct {
	id      string
	seeds   []string
	began   time.Time
	actions map[string]*action
	grace   time.Duration
	// Without TLS, if nobody says otherwise.
	credentials credentials.TransportCredentials

	mu         sync.Mutex
	held       map[key]*attempt
	extensions map[key]bool // that no server was asked for yet
	lost       []*attempt   // results for which no stream answered
	lostCame   chan struct{}
	session    *session
	listed     []string
	clients    map[string]api.ActionServiceClient
	stopping   bool
}

// NewWorker has an id of its own, and the addresses of some servers.
func NewWorker(id string, grace time.Duration, seeds ...string) *Worker {
	return &Worker{
		id: id, seeds: seeds, grace: grace, began: time.Now(), actions: map[string]*action{},
		held: map[key]*attempt{}, extensions: map[key]bool{}, lostCame: make(chan struct{}, 1),
		clients: map[string]api.ActionServiceClient{}, credentials: insecure.NewCredentials(),
	}
}

// Action makes a function a user action.
func (w *Worker) Action(definition *api.ActionDefinition, hands int, function Function) {
	w.actions[definition.Name] = &action{definition: definition, function: function, hands: hands}
}

// client is the one connection to a server. It connects again by itself, more often than gRPC would.
func (w *Worker) client(address string) (api.ActionServiceClient, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if client, ok := w.clients[address]; ok {
		return client, nil
	}
	connection, err := grpc.NewClient("passthrough:///"+address,
		grpc.WithTransportCredentials(w.credentials),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(receiveBytes)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: 10 * time.Second, Timeout: 5 * time.Second, PermitWithoutStream: true,
		}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: pauseMin, Multiplier: 2, Jitter: 0.5, MaxDelay: pauseMax},
			MinConnectTimeout: callTimeout,
		}))
	if err != nil {
		return nil, err
	}
	w.clients[address] = api.NewActionServiceClient(connection)
	return w.clients[address], nil
}

// servers are all that may be there, in any order, but the one that was just left comes last.
func (w *Worker) servers(last string) []string {
	w.mu.Lock()
	all := slices.Concat(w.listed, w.seeds)
	w.mu.Unlock()
	slices.Sort(all)
	all = slices.Compact(all)
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	if i := slices.Index(all, last); i >= 0 {
		all = append(slices.Delete(all, i, i+1), last)
	}
	return all
}

// Run works until the context ends; then it finishes what it holds.
func (w *Worker) Run(ctx context.Context) {
	over, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	go func() {
		<-ctx.Done()
		w.stop()
		time.AfterFunc(w.grace, end)
	}()
	go w.push(over)
	last, pause := "", pauseMin
	for !w.done() && over.Err() == nil {
		stood := false
		for _, address := range w.servers(last) {
			last = address
			stood = w.serve(over, address)
			if stood || w.done() {
				break
			}
		}
		if stood {
			pause = pauseMin
			continue
		}
		select {
		case <-time.After(time.Duration(float64(pause) * (0.5 + rand.Float64()/2))):
		case <-over.Done():
		}
		pause = min(2*pause, pauseMax)
	}
}

func (w *Worker) stop() {
	log.Print("stopping: finishing what is held")
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopping = true
	if w.session != nil {
		w.session.sayGoodbye()
	}
}

// done says whether the worker is to end, and can.
func (w *Worker) done() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stopping && len(w.held) == 0
}

// serve is one session; false: it came to nothing.
func (w *Worker) serve(ctx context.Context, address string) bool {
	client, err := w.client(address)
	if err == nil {
		err = w.greet(ctx, client)
	}
	if err != nil {
		log.Printf("can't work with %s: %v", address, err)
		return false
	}
	opened := time.Now()
	log.Printf("connected to %s", address)
	err = w.work(ctx, client)
	log.Printf("the stream to %s ended: %v", address, err)
	return time.Since(opened) > stoodMin
}

func (w *Worker) greet(ctx context.Context, client api.ActionServiceClient) error {
	for _, action := range w.actions {
		limited, cancel := context.WithTimeout(ctx, callTimeout)
		_, err := client.SaveActionDefinition(limited, action.definition)
		cancel()
		if err != nil {
			return err
		}
	}
	return w.learn(ctx, client)
}

// learn asks who is there.
func (w *Worker) learn(ctx context.Context, client api.ActionServiceClient) error {
	limited, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	answer, err := client.GetServers(limited, &api.GetServersRequest{})
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.listed = nil
	for _, server := range answer.Servers {
		w.listed = append(w.listed, server.RpcAddr)
	}
	return nil
}

// begin runs an attempt that arrived. The caller has the lock.
func (w *Worker) begin(arrived *api.Action) {
	id := key{arrived.FlowId, arrived.ActionId, arrived.RetryCount}
	known := w.actions[arrived.ActionName]
	if known == nil {
		log.Printf("an attempt of %q arrived, which nobody asked for", arrived.ActionName)
		return
	}
	if w.held[id] != nil { // again: it runs already
		w.session.credit(arrived.ActionName, 1)
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	held := &attempt{key: id, name: arrived.ActionName, cancel: cancel}
	w.held[id] = held
	known.running++
	go func() {
		result := w.call(ctx, known, arrived)
		w.mu.Lock()
		defer w.mu.Unlock()
		held.result = result
		delete(w.extensions, id)
		known.running--
		if w.session != nil && w.session.takes(held) {
			w.session.bring(held)
		} else {
			w.pushLater(held)
		}
	}()
}

// call turns whatever becomes of a function into a result.
func (w *Worker) call(ctx context.Context, known *action, arrived *api.Action) (result *api.ActionResult) {
	result = &api.ActionResult{
		WorkflowName: arrived.WorkflowName, ActionName: arrived.ActionName, FlowId: arrived.FlowId,
		ActionId: arrived.ActionId, RetryCount: arrived.RetryCount, WorkerId: w.id,
	}
	defer func() {
		if trouble := recover(); trouble != nil {
			fail(result, fmt.Sprintf("panic: %v", trouble))
		}
	}()
	id := key{arrived.FlowId, arrived.ActionId, arrived.RetryCount}
	job := &Job{Data: map[string]any{}, Action: arrived, Extend: func() { w.extend(id) }}
	for name, value := range arrived.Data {
		job.Data[name] = value.AsInterface()
	}
	output, err := known.function(ctx, job)
	if err != nil {
		fail(result, err.Error())
		return result
	}
	data, err := structpb.NewStruct(output)
	if err != nil {
		fail(result, fmt.Sprintf("the output can't be sent: %v", err))
		return result
	}
	result.Data = data.Fields
	return result
}

func fail(result *api.ActionResult, text string) {
	result.Status = api.ActionResult_FAIL
	result.Data = nil
	result.Error = text
}

func (w *Worker) extend(id key) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.extensions[id] = true
	if w.session != nil {
		w.session.tell()
	}
}

// settle does what an answer for a result asks for. The caller has the lock.
func (w *Worker) settle(held *attempt, code codes.Code, message string, status bool) {
	switch {
	case code == codes.OK:
		if !status {
			log.Printf("flow %s is not there any more: a result of it is dropped", held.flow)
		}
		w.forget(held)
	case code != codes.InvalidArgument && code != codes.ResourceExhausted:
		log.Printf("a result was not taken, it is pushed again: %s", message)
		w.pushLater(held)
	case held.result.Status == api.ActionResult_SUCCESS:
		fail(held.result, "the server refused the result: "+message)
		w.pushLater(held)
	default:
		log.Printf("a result of flow %s was refused: %s", held.flow, message)
		w.forget(held)
	}
}

func (w *Worker) forget(held *attempt) {
	held.cancel()
	delete(w.held, held.key)
	if w.session != nil {
		w.session.tell()
	}
}
