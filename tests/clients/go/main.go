// A worker in Go that knows of Orchy only what proto/action_service.proto says: it works off one flow of two actions.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	health "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"

	"orchy.test/client/api"
)

func check(err error, what string) {
	if err != nil {
		log.Fatalf("%s: %v", what, err)
	}
}

func demand(ok bool, format string, values ...any) {
	if !ok {
		log.Fatalf(format, values...)
	}
}

func main() {
	connection, err := grpc.NewClient(os.Args[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
	check(err, "connect")
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()

	answer, err := health.NewHealthClient(connection).Check(ctx, &health.HealthCheckRequest{})
	check(err, "health")
	demand(answer.Status == health.HealthCheckResponse_SERVING, "the server says that it is %v", answer.Status)

	service := api.NewActionServiceClient(connection)
	servers, err := service.GetServers(ctx, &api.GetServersRequest{})
	check(err, "GetServers")
	demand(len(servers.Servers) == 1 && servers.Servers[0].RpcAddr == os.Args[1], "the servers are %v", servers.Servers)

	for _, name := range []string{"first", "second"} {
		saved, err := service.SaveActionDefinition(ctx, &api.ActionDefinition{Name: name, RetryCount: 3, RetryPolicy: "FIXED", TimeoutSeconds: 30})
		check(err, "SaveActionDefinition")
		demand(saved.Status, "the definition of %s was not saved", name)
	}
	for _, name := range []string{"first", "second"} {
		polled, err := service.Poll(ctx, &api.ActionPollRequest{ActionType: name, BatchSize: 10, WaitMillis: 20_000, WorkerId: "go"})
		check(err, "Poll")
		demand(len(polled.Actions) == 1, "%d actions instead of one", len(polled.Actions))
		action := polled.Actions[0]
		demand(action.ActionName == name && action.RetryCount == 1, "the action is %v", action)
		n := action.Data["n"].GetNumberValue()
		pushed, err := service.Push(ctx, &api.ActionResult{ // as workers of old do: without actionName
			WorkflowName: action.WorkflowName,
			FlowId:       action.FlowId,
			ActionId:     action.ActionId,
			RetryCount:   action.RetryCount,
			Data:         map[string]*structpb.Value{"n": structpb.NewNumberValue(n + 1)},
		})
		check(err, "Push")
		demand(pushed.Status, "the result was not taken")
	}

	_, err = service.GetServers(ctx, &api.GetServersRequest{}, grpc.UseCompressor(gzip.Name))
	demand(status.Code(err) == codes.Unimplemented, "a compressed call was answered by %v", err)
	short, stop := context.WithTimeout(ctx, 200*time.Millisecond)
	defer stop()
	_, err = service.Poll(short, &api.ActionPollRequest{ActionType: "first", WaitMillis: 20_000})
	demand(status.Code(err) == codes.DeadlineExceeded, "a call past its deadline ended with %v", err)
	fmt.Println("done")
}
