// A worker in Java that knows of Orchy only what proto/action_service.proto says: it works off one flow of two actions.
// It is in no package, as the proto and so what is generated of it is in none.

import com.google.protobuf.Value;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.health.v1.HealthCheckRequest;
import io.grpc.health.v1.HealthCheckResponse;
import io.grpc.health.v1.HealthGrpc;
import java.util.List;
import java.util.concurrent.TimeUnit;

public final class Worker {
    private static final List<String> NAMES = List.of("first", "second");

    private static void demand(boolean ok, String what) {
        if (!ok) {
            throw new IllegalStateException(what);
        }
    }

    private static Status.Code codeOf(Runnable call) {
        try {
            call.run();
            return Status.Code.OK;
        } catch (StatusRuntimeException error) {
            return error.getStatus().getCode();
        }
    }

    public static void main(String[] arguments) throws InterruptedException {
        ManagedChannel channel = ManagedChannelBuilder.forTarget(arguments[0]).usePlaintext().build();
        try {
            work(channel, arguments[0]);
        } finally {
            channel.shutdown().awaitTermination(10, TimeUnit.SECONDS);
        }
        System.out.println("done");
    }

    private static void work(ManagedChannel channel, String address) {
        HealthCheckResponse health = HealthGrpc.newBlockingStub(channel)
                .withDeadlineAfter(60, TimeUnit.SECONDS)
                .check(HealthCheckRequest.getDefaultInstance());
        demand(health.getStatus() == HealthCheckResponse.ServingStatus.SERVING, "the server does not serve");

        ActionServiceGrpc.ActionServiceBlockingStub service =
                ActionServiceGrpc.newBlockingStub(channel).withDeadlineAfter(60, TimeUnit.SECONDS);
        GetServersResponse servers = service.getServers(GetServersRequest.getDefaultInstance());
        demand(servers.getServersCount() == 1 && servers.getServers(0).getRpcAddr().equals(address), "other servers");

        for (String name : NAMES) {
            ActionDefinition definition = ActionDefinition.newBuilder()
                    .setName(name).setRetryCount(3).setRetryPolicy("FIXED").setTimeoutSeconds(30).build();
            demand(service.saveActionDefinition(definition).getStatus(), "the definition was not saved");
        }
        for (String name : NAMES) {
            ActionPollRequest poll = ActionPollRequest.newBuilder()
                    .setActionType(name).setBatchSize(10).setWaitMillis(20_000).setWorkerId("java").build();
            Actions actions = service.poll(poll);
            demand(actions.getActionsCount() == 1, actions.getActionsCount() + " actions instead of one");
            Action action = actions.getActions(0);
            demand(action.getActionName().equals(name) && action.getRetryCount() == 1, "another action");
            double n = action.getDataOrThrow("n").getNumberValue();
            ActionResult result = ActionResult.newBuilder() // as workers of old do: without actionName
                    .setWorkflowName(action.getWorkflowName())
                    .setFlowId(action.getFlowId())
                    .setActionId(action.getActionId())
                    .setRetryCount(action.getRetryCount())
                    .putData("n", Value.newBuilder().setNumberValue(n + 1).build())
                    .build();
            demand(service.push(result).getStatus(), "the result was not taken");
        }

        Status.Code compressed = codeOf(
                () -> service.withCompression("gzip").getServers(GetServersRequest.getDefaultInstance()));
        demand(compressed == Status.Code.UNIMPLEMENTED, "a compressed call was answered by " + compressed);
        ActionPollRequest held = ActionPollRequest.newBuilder().setActionType("first").setWaitMillis(20_000).build();
        Status.Code late = codeOf(() -> service.withDeadlineAfter(200, TimeUnit.MILLISECONDS).poll(held));
        demand(late == Status.Code.DEADLINE_EXCEEDED, "a call past its deadline ended with " + late);
    }
}
