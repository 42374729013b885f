import purerpc
from . import action_service_pb2 as action_service__pb2
import google.protobuf.struct_pb2 as google_dot_protobuf_dot_struct__pb2


class ActionServiceServicer(purerpc.Servicer):
    async def SaveActionDefinition(self, input_message):
        raise NotImplementedError()

    async def Poll(self, input_message):
        raise NotImplementedError()

    async def Push(self, input_message):
        raise NotImplementedError()

    async def PushAll(self, input_message):
        raise NotImplementedError()

    async def Work(self, input_messages):
        raise NotImplementedError()

    async def Renew(self, input_message):
        raise NotImplementedError()

    async def GetServers(self, input_message):
        raise NotImplementedError()

    @property
    def service(self) -> purerpc.Service:
        service_obj = purerpc.Service(
            "ActionService"
        )
        service_obj.add_method(
            "SaveActionDefinition",
            self.SaveActionDefinition,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                action_service__pb2.ActionDefinition,
                action_service__pb2.ActionDefinitionSaveResponse,
            )
        )
        service_obj.add_method(
            "Poll",
            self.Poll,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                action_service__pb2.ActionPollRequest,
                action_service__pb2.Actions,
            )
        )
        service_obj.add_method(
            "Push",
            self.Push,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                action_service__pb2.ActionResult,
                action_service__pb2.ActionResultPushResponse,
            )
        )
        service_obj.add_method(
            "PushAll",
            self.PushAll,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                action_service__pb2.ActionResults,
                action_service__pb2.ActionResultsPushResponse,
            )
        )
        service_obj.add_method(
            "Work",
            self.Work,
            purerpc.RPCSignature(
                purerpc.Cardinality.STREAM_STREAM,
                action_service__pb2.WorkerMessage,
                action_service__pb2.ServerMessage,
            )
        )
        service_obj.add_method(
            "Renew",
            self.Renew,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                action_service__pb2.RenewRequest,
                action_service__pb2.RenewResponse,
            )
        )
        service_obj.add_method(
            "GetServers",
            self.GetServers,
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                action_service__pb2.GetServersRequest,
                action_service__pb2.GetServersResponse,
            )
        )
        return service_obj


class ActionServiceStub:
    def __init__(self, channel):
        self._client = purerpc.Client(
            "ActionService",
            channel
        )
        self.SaveActionDefinition = self._client.get_method_stub(
            "SaveActionDefinition",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                action_service__pb2.ActionDefinition,
                action_service__pb2.ActionDefinitionSaveResponse,
            )
        )
        self.Poll = self._client.get_method_stub(
            "Poll",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                action_service__pb2.ActionPollRequest,
                action_service__pb2.Actions,
            )
        )
        self.Push = self._client.get_method_stub(
            "Push",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                action_service__pb2.ActionResult,
                action_service__pb2.ActionResultPushResponse,
            )
        )
        self.PushAll = self._client.get_method_stub(
            "PushAll",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                action_service__pb2.ActionResults,
                action_service__pb2.ActionResultsPushResponse,
            )
        )
        self.Work = self._client.get_method_stub(
            "Work",
            purerpc.RPCSignature(
                purerpc.Cardinality.STREAM_STREAM,
                action_service__pb2.WorkerMessage,
                action_service__pb2.ServerMessage,
            )
        )
        self.Renew = self._client.get_method_stub(
            "Renew",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                action_service__pb2.RenewRequest,
                action_service__pb2.RenewResponse,
            )
        )
        self.GetServers = self._client.get_method_stub(
            "GetServers",
            purerpc.RPCSignature(
                purerpc.Cardinality.UNARY_UNARY,
                action_service__pb2.GetServersRequest,
                action_service__pb2.GetServersResponse,
            )
        )