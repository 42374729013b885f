from collections.abc import Iterable as _Iterable
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar

from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper

DESCRIPTOR: _descriptor.FileDescriptor

class Action(_message.Message):
    __slots__ = ("actionId", "actionName", "data", "flowId", "retryCount", "timeoutSeconds", "type", "workflowName")
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
        def __init__(self, key: str | None = ..., value: _struct_pb2.Value | _Mapping | None = ...) -> None: ...
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
    def __init__(self, workflowName: str | None = ..., flowId: str | None = ..., data: _Mapping[str, _struct_pb2.Value] | None = ..., actionId: int | None = ..., actionName: str | None = ..., retryCount: int | None = ..., type: Action.Type | str | None = ..., timeoutSeconds: int | None = ...) -> None: ...

class Actions(_message.Message):
    __slots__ = ("actions",)
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    actions: _containers.RepeatedCompositeFieldContainer[Action]
    def __init__(self, actions: _Iterable[Action | _Mapping] | None = ...) -> None: ...

class ActionResult(_message.Message):
    __slots__ = ("actionId", "actionName", "data", "error", "flowId", "retryCount", "status", "workerId", "workflowName")
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
        def __init__(self, key: str | None = ..., value: _struct_pb2.Value | _Mapping | None = ...) -> None: ...
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
    def __init__(self, workflowName: str | None = ..., actionName: str | None = ..., flowId: str | None = ..., actionId: int | None = ..., data: _Mapping[str, _struct_pb2.Value] | None = ..., status: ActionResult.Status | str | None = ..., retryCount: int | None = ..., error: str | None = ..., workerId: str | None = ...) -> None: ...

class ActionDefinition(_message.Message):
    __slots__ = ("name", "retryAfterSeconds", "retryCount", "retryPolicy", "timeoutSeconds")
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
    def __init__(self, name: str | None = ..., retryCount: int | None = ..., retryAfterSeconds: int | None = ..., retryPolicy: str | None = ..., timeoutSeconds: int | None = ...) -> None: ...

class ActionDefinitionSaveResponse(_message.Message):
    __slots__ = ("status",)
    STATUS_FIELD_NUMBER: _ClassVar[int]
    status: bool
    def __init__(self, status: bool | None = ...) -> None: ...

class ActionPollRequest(_message.Message):
    __slots__ = ("actionType", "batchSize", "waitMillis", "workerId")
    ACTIONTYPE_FIELD_NUMBER: _ClassVar[int]
    BATCHSIZE_FIELD_NUMBER: _ClassVar[int]
    WAITMILLIS_FIELD_NUMBER: _ClassVar[int]
    WORKERID_FIELD_NUMBER: _ClassVar[int]
    actionType: str
    batchSize: int
    waitMillis: int
    workerId: str
    def __init__(self, actionType: str | None = ..., batchSize: int | None = ..., waitMillis: int | None = ..., workerId: str | None = ...) -> None: ...

class ActionResultPushResponse(_message.Message):
    __slots__ = ("status",)
    STATUS_FIELD_NUMBER: _ClassVar[int]
    status: bool
    def __init__(self, status: bool | None = ...) -> None: ...

class Server(_message.Message):
    __slots__ = ("id", "rpc_addr")
    ID_FIELD_NUMBER: _ClassVar[int]
    RPC_ADDR_FIELD_NUMBER: _ClassVar[int]
    id: str
    rpc_addr: str
    def __init__(self, id: str | None = ..., rpc_addr: str | None = ...) -> None: ...

class GetServersRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetServersResponse(_message.Message):
    __slots__ = ("servers",)
    SERVERS_FIELD_NUMBER: _ClassVar[int]
    servers: _containers.RepeatedCompositeFieldContainer[Server]
    def __init__(self, servers: _Iterable[Server | _Mapping] | None = ...) -> None: ...
