"""The `rtrelay.v1` contract: messages, enums and stubs in one place.

    from rtrelay.v1 import ConverseRequest, RelayServiceStub, Setup

The contract itself, with a sample exchange and the rules, is documented in
`proto/rtrelay/v1/relay.proto`; the comments there are the docstrings of the `.pyi` files here.
Everything but this file is generated: `make proto`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rtrelay.v1 import content_pb2, errors_pb2, relay_pb2, relay_pb2_grpc
from rtrelay.v1.content_pb2 import (
    AudioPart,
    FilePart,
    FinishReason,
    ImagePart,
    Message,
    OpaquePart,
    Part,
    Prompt,
    ReasoningOptions,
    ResponseFormat,
    ResponseFormatKind,
    Role,
    Sampling,
    Tool,
    ToolCall,
    ToolChoice,
    ToolChoiceMode,
    ToolKind,
    Usage,
)
from rtrelay.v1.errors_pb2 import (
    ErrorReason,
)
from rtrelay.v1.relay_pb2 import (
    Attempt,
    AttemptKind,
    AttemptOutcome,
    AttemptPhases,
    AudioDelta,
    Budgets,
    Cancel,
    CancelReason,
    ChoiceEnd,
    Close,
    Commit,
    CommitOn,
    ConverseRequest,
    ConverseResponse,
    Delta,
    End,
    Extra,
    GenerateRequest,
    GenerateResponse,
    Limits,
    Notice,
    NoticeKind,
    Outcome,
    OutputOptions,
    Ping,
    Pong,
    PromptCache,
    Ready,
    Segment,
    Setup,
    Start,
    Started,
    TextMode,
    Timeline,
    ToolArgumentsDelta,
    ToolCallDone,
)
from rtrelay.v1.relay_pb2_grpc import (
    RelayServiceServicer,
    RelayServiceStub,
    add_RelayServiceServicer_to_server,
)

if TYPE_CHECKING:
    from rtrelay.v1.relay_pb2_grpc import RelayServiceAsyncStub
else:
    # A type alias of the .pyi file: the stub over a `grpc.aio` channel is the same class.
    RelayServiceAsyncStub = RelayServiceStub

__all__ = [
    "Attempt",
    "AttemptKind",
    "AttemptOutcome",
    "AttemptPhases",
    "AudioDelta",
    "AudioPart",
    "Budgets",
    "Cancel",
    "CancelReason",
    "ChoiceEnd",
    "Close",
    "Commit",
    "CommitOn",
    "ConverseRequest",
    "ConverseResponse",
    "Delta",
    "End",
    "ErrorReason",
    "Extra",
    "FilePart",
    "FinishReason",
    "GenerateRequest",
    "GenerateResponse",
    "ImagePart",
    "Limits",
    "Message",
    "Notice",
    "NoticeKind",
    "OpaquePart",
    "Outcome",
    "OutputOptions",
    "Part",
    "Ping",
    "Pong",
    "Prompt",
    "PromptCache",
    "Ready",
    "ReasoningOptions",
    "RelayServiceAsyncStub",
    "RelayServiceServicer",
    "RelayServiceStub",
    "ResponseFormat",
    "ResponseFormatKind",
    "Role",
    "Sampling",
    "Segment",
    "Setup",
    "Start",
    "Started",
    "TextMode",
    "Timeline",
    "Tool",
    "ToolArgumentsDelta",
    "ToolCall",
    "ToolCallDone",
    "ToolChoice",
    "ToolChoiceMode",
    "ToolKind",
    "Usage",
    "add_RelayServiceServicer_to_server",
    "content_pb2",
    "errors_pb2",
    "relay_pb2",
    "relay_pb2_grpc",
]
