from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Action(_message.Message):
    __slots__ = ("workflowName", "flowId", "data", "actionId", "actionName", "retryCount", "type", "timeoutSeconds")
    class Type(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        SYSTEM: _ClassVar[Action.Type]
        USER: _ClassVar[Action.Type]
    SYSTEM: Action.Type
    USER: Action.Type
    class DataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _struct_pb2.Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_struct_pb2.Value, _Mapping]] = ...) -> None: ...
    WORKFLOWNAME_FIELD_NUMBER: _ClassVar[int]
    FLOWID_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    ACTIONID_FIELD_NUMBER: _ClassVar[int]
    ACTIONNAME_FIELD_NUMBER: _ClassVar[int]
    RETRYCOUNT_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    TIMEOUTSECONDS_FIELD_NUMBER: _ClassVar[int]
    workflowName: str
    flowId: str
    data: _containers.MessageMap[str, _struct_pb2.Value]
    actionId: int
    actionName: str
    retryCount: int
    type: Action.Type
    timeoutSeconds: int
    def __init__(self, workflowName: _Optional[str] = ..., flowId: _Optional[str] = ..., data: _Optional[_Mapping[str, _struct_pb2.Value]] = ..., actionId: _Optional[int] = ..., actionName: _Optional[str] = ..., retryCount: _Optional[int] = ..., type: _Optional[_Union[Action.Type, str]] = ..., timeoutSeconds: _Optional[int] = ...) -> None: ...

class Actions(_message.Message):
    __slots__ = ("actions",)
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    actions: _containers.RepeatedCompositeFieldContainer[Action]
    def __init__(self, actions: _Optional[_Iterable[_Union[Action, _Mapping]]] = ...) -> None: ...

class ActionResult(_message.Message):
    __slots__ = ("workflowName", "actionName", "flowId", "actionId", "data", "status", "retryCount", "error", "workerId")
    class Status(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        SUCCESS: _ClassVar[ActionResult.Status]
        FAIL: _ClassVar[ActionResult.Status]
    SUCCESS: ActionResult.Status
    FAIL: ActionResult.Status
    class DataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _struct_pb2.Value
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_struct_pb2.Value, _Mapping]] = ...) -> None: ...
    WORKFLOWNAME_FIELD_NUMBER: _ClassVar[int]
    ACTIONNAME_FIELD_NUMBER: _ClassVar[int]
    FLOWID_FIELD_NUMBER: _ClassVar[int]
    ACTIONID_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    RETRYCOUNT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    WORKERID_FIELD_NUMBER: _ClassVar[int]
    workflowName: str
    actionName: str
    flowId: str
    actionId: int
    data: _containers.MessageMap[str, _struct_pb2.Value]
    status: ActionResult.Status
    retryCount: int
    error: str
    workerId: str
    def __init__(self, workflowName: _Optional[str] = ..., actionName: _Optional[str] = ..., flowId: _Optional[str] = ..., actionId: _Optional[int] = ..., data: _Optional[_Mapping[str, _struct_pb2.Value]] = ..., status: _Optional[_Union[ActionResult.Status, str]] = ..., retryCount: _Optional[int] = ..., error: _Optional[str] = ..., workerId: _Optional[str] = ...) -> None: ...

class ActionDefinition(_message.Message):
    __slots__ = ("name", "retryCount", "retryAfterSeconds", "retryPolicy", "timeoutSeconds")
    NAME_FIELD_NUMBER: _ClassVar[int]
    RETRYCOUNT_FIELD_NUMBER: _ClassVar[int]
    RETRYAFTERSECONDS_FIELD_NUMBER: _ClassVar[int]
    RETRYPOLICY_FIELD_NUMBER: _ClassVar[int]
    TIMEOUTSECONDS_FIELD_NUMBER: _ClassVar[int]
    name: str
    retryCount: int
    retryAfterSeconds: int
    retryPolicy: str
    timeoutSeconds: int
    def __init__(self, name: _Optional[str] = ..., retryCount: _Optional[int] = ..., retryAfterSeconds: _Optional[int] = ..., retryPolicy: _Optional[str] = ..., timeoutSeconds: _Optional[int] = ...) -> None: ...

class ActionDefinitionSaveResponse(_message.Message):
    __slots__ = ("status",)
    STATUS_FIELD_NUMBER: _ClassVar[int]
    status: bool
    def __init__(self, status: _Optional[bool] = ...) -> None: ...

class ActionPollRequest(_message.Message):
    __slots__ = ("actionType", "batchSize", "waitMillis", "workerId", "leaseMillis")
    ACTIONTYPE_FIELD_NUMBER: _ClassVar[int]
    BATCHSIZE_FIELD_NUMBER: _ClassVar[int]
    WAITMILLIS_FIELD_NUMBER: _ClassVar[int]
    WORKERID_FIELD_NUMBER: _ClassVar[int]
    LEASEMILLIS_FIELD_NUMBER: _ClassVar[int]
    actionType: str
    batchSize: int
    waitMillis: int
    workerId: str
    leaseMillis: int
    def __init__(self, actionType: _Optional[str] = ..., batchSize: _Optional[int] = ..., waitMillis: _Optional[int] = ..., workerId: _Optional[str] = ..., leaseMillis: _Optional[int] = ...) -> None: ...

class RenewRequest(_message.Message):
    __slots__ = ("workerId", "attempts", "leaseMillis")
    WORKERID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    LEASEMILLIS_FIELD_NUMBER: _ClassVar[int]
    workerId: str
    attempts: _containers.RepeatedCompositeFieldContainer[Attempt]
    leaseMillis: int
    def __init__(self, workerId: _Optional[str] = ..., attempts: _Optional[_Iterable[_Union[Attempt, _Mapping]]] = ..., leaseMillis: _Optional[int] = ...) -> None: ...

class RenewResponse(_message.Message):
    __slots__ = ("renewed",)
    RENEWED_FIELD_NUMBER: _ClassVar[int]
    renewed: _containers.RepeatedScalarFieldContainer[bool]
    def __init__(self, renewed: _Optional[_Iterable[bool]] = ...) -> None: ...

class ActionResultPushResponse(_message.Message):
    __slots__ = ("status",)
    STATUS_FIELD_NUMBER: _ClassVar[int]
    status: bool
    def __init__(self, status: _Optional[bool] = ...) -> None: ...

class ActionResults(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[ActionResult]
    def __init__(self, results: _Optional[_Iterable[_Union[ActionResult, _Mapping]]] = ...) -> None: ...

class ActionResultsPushResponse(_message.Message):
    __slots__ = ("outcomes",)
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    outcomes: _containers.RepeatedCompositeFieldContainer[PushOutcome]
    def __init__(self, outcomes: _Optional[_Iterable[_Union[PushOutcome, _Mapping]]] = ...) -> None: ...

class PushOutcome(_message.Message):
    __slots__ = ("status", "code", "message")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    status: bool
    code: int
    message: str
    def __init__(self, status: _Optional[bool] = ..., code: _Optional[int] = ..., message: _Optional[str] = ...) -> None: ...

class WorkerMessage(_message.Message):
    __slots__ = ("workerId", "credits", "results", "extend", "number", "goodbye", "renews", "holding", "missing", "upMillis")
    WORKERID_FIELD_NUMBER: _ClassVar[int]
    CREDITS_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    EXTEND_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    GOODBYE_FIELD_NUMBER: _ClassVar[int]
    RENEWS_FIELD_NUMBER: _ClassVar[int]
    HOLDING_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    UPMILLIS_FIELD_NUMBER: _ClassVar[int]
    workerId: str
    credits: _containers.RepeatedCompositeFieldContainer[Credit]
    results: _containers.RepeatedCompositeFieldContainer[ActionResult]
    extend: _containers.RepeatedCompositeFieldContainer[Attempt]
    number: int
    goodbye: bool
    renews: bool
    holding: _containers.RepeatedCompositeFieldContainer[Attempt]
    missing: _containers.RepeatedCompositeFieldContainer[Attempt]
    upMillis: int
    def __init__(self, workerId: _Optional[str] = ..., credits: _Optional[_Iterable[_Union[Credit, _Mapping]]] = ..., results: _Optional[_Iterable[_Union[ActionResult, _Mapping]]] = ..., extend: _Optional[_Iterable[_Union[Attempt, _Mapping]]] = ..., number: _Optional[int] = ..., goodbye: _Optional[bool] = ..., renews: _Optional[bool] = ..., holding: _Optional[_Iterable[_Union[Attempt, _Mapping]]] = ..., missing: _Optional[_Iterable[_Union[Attempt, _Mapping]]] = ..., upMillis: _Optional[int] = ...) -> None: ...

class Credit(_message.Message):
    __slots__ = ("actionName", "count")
    ACTIONNAME_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    actionName: str
    count: int
    def __init__(self, actionName: _Optional[str] = ..., count: _Optional[int] = ...) -> None: ...

class Attempt(_message.Message):
    __slots__ = ("flowId", "actionId", "retryCount")
    FLOWID_FIELD_NUMBER: _ClassVar[int]
    ACTIONID_FIELD_NUMBER: _ClassVar[int]
    RETRYCOUNT_FIELD_NUMBER: _ClassVar[int]
    flowId: str
    actionId: int
    retryCount: int
    def __init__(self, flowId: _Optional[str] = ..., actionId: _Optional[int] = ..., retryCount: _Optional[int] = ...) -> None: ...

class ServerMessage(_message.Message):
    __slots__ = ("actions", "taken", "extended", "goodbye", "leaseMillis", "asks")
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    TAKEN_FIELD_NUMBER: _ClassVar[int]
    EXTENDED_FIELD_NUMBER: _ClassVar[int]
    GOODBYE_FIELD_NUMBER: _ClassVar[int]
    LEASEMILLIS_FIELD_NUMBER: _ClassVar[int]
    ASKS_FIELD_NUMBER: _ClassVar[int]
    actions: _containers.RepeatedCompositeFieldContainer[Action]
    taken: _containers.RepeatedCompositeFieldContainer[Taken]
    extended: _containers.RepeatedCompositeFieldContainer[Extended]
    goodbye: bool
    leaseMillis: int
    asks: _containers.RepeatedCompositeFieldContainer[Attempt]
    def __init__(self, actions: _Optional[_Iterable[_Union[Action, _Mapping]]] = ..., taken: _Optional[_Iterable[_Union[Taken, _Mapping]]] = ..., extended: _Optional[_Iterable[_Union[Extended, _Mapping]]] = ..., goodbye: _Optional[bool] = ..., leaseMillis: _Optional[int] = ..., asks: _Optional[_Iterable[_Union[Attempt, _Mapping]]] = ...) -> None: ...

class Taken(_message.Message):
    __slots__ = ("number", "outcomes")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    number: int
    outcomes: _containers.RepeatedCompositeFieldContainer[PushOutcome]
    def __init__(self, number: _Optional[int] = ..., outcomes: _Optional[_Iterable[_Union[PushOutcome, _Mapping]]] = ...) -> None: ...

class Extended(_message.Message):
    __slots__ = ("number", "extended")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    EXTENDED_FIELD_NUMBER: _ClassVar[int]
    number: int
    extended: _containers.RepeatedScalarFieldContainer[bool]
    def __init__(self, number: _Optional[int] = ..., extended: _Optional[_Iterable[bool]] = ...) -> None: ...

class Server(_message.Message):
    __slots__ = ("id", "rpc_addr")
    ID_FIELD_NUMBER: _ClassVar[int]
    RPC_ADDR_FIELD_NUMBER: _ClassVar[int]
    id: str
    rpc_addr: str
    def __init__(self, id: _Optional[str] = ..., rpc_addr: _Optional[str] = ...) -> None: ...

class GetServersRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetServersResponse(_message.Message):
    __slots__ = ("servers",)
    SERVERS_FIELD_NUMBER: _ClassVar[int]
    servers: _containers.RepeatedCompositeFieldContainer[Server]
    def __init__(self, servers: _Optional[_Iterable[_Union[Server, _Mapping]]] = ...) -> None: ...
