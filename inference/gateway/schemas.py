"""What comes in and goes out: OpenAI's chat completions, and what is the gateway's own in them."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

FACTS = 100  # of a card at most
FACT = 500  # characters
TEXT = 100_000  # characters of a message
MESSAGES = 2_000
REPLIES = 8

Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
Fact = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=FACT)]
Facts = Annotated[list[Fact], Field(min_length=1, max_length=FACTS)]
Stop = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Number = Annotated[float, Field(allow_inf_nan=False)]


class Part(BaseModel):
    """A part of a message's content; text is all that a persona reads."""

    type: str
    text: str | None = Field(None, max_length=TEXT)
    refusal: str | None = Field(None, max_length=TEXT)


class Message(BaseModel):
    """One message in OpenAI's form."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Annotated[str, StringConstraints(max_length=TEXT)] | list[Part] | None = None
    tool_calls: list | None = None


class StreamOptions(BaseModel):
    """``include_usage``: the usage comes in a chunk of its own, without choices, as OpenAI has it."""

    include_usage: bool | None = None


class ChatRequest(BaseModel):
    """A chat completion as OpenAI has it; from ``persona`` on, the fields are the gateway's own."""

    model_config = ConfigDict(extra="allow")

    model: str = Field("persona", max_length=300)
    messages: list[Message] = Field(min_length=1, max_length=MESSAGES)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: int | None = Field(None, ge=1, le=REPLIES)
    temperature: Number | None = Field(None, ge=0, le=2)
    top_p: Number | None = Field(None, ge=0, le=1)
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    stop: Stop | Annotated[list[Stop], Field(max_length=16)] | None = None
    presence_penalty: Number | None = Field(None, ge=-2, le=2)
    frequency_penalty: Number | None = Field(None, ge=-2, le=2)
    seed: int | None = None
    logprobs: bool | None = None
    tools: list | None = None
    response_format: dict | None = None

    persona: Id | Facts | None = Field(None, description="a card: its facts, or the id of a stored one")
    conversation: Id | None = Field(None, description="a stored conversation, which goes on; messages are the new ones")
    citations: Literal["model", "verified"] | None = None
    memory: Literal["drop", "summary", "retrieve"] | None = None
    history: Literal["turns", "block"] | None = None
    quote: bool | None = None

    @field_validator("temperature")
    @classmethod
    def _no_tiny_temperature(cls, value: float | None) -> float | None:
        """Logits divided by next to nothing are infinite; what is meant is: always the likeliest word."""
        return 0.0 if value is not None and value < 0.01 else value


class CitationOut(BaseModel):
    """A mark of the reply, its fact, its score, and its place in characters (Unicode code points)."""

    mark: str
    fact: str
    score: float | None
    source: str | None = None
    start: int
    end: int
    choice: int = 0


class RetrievedOut(BaseModel):
    """A fact or a chunk of a document that was shown for the message."""

    mark: str
    fact: str
    score: float | None
    source: str | None = None


class Usage(BaseModel):
    """Tokens; ``estimated`` if neither the backend nor a tokenizer counted them."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    estimated: bool | None = None


class Choice(BaseModel):
    """One reply."""

    index: int
    message: dict
    finish_reason: str


class ChatCompletion(BaseModel):
    """OpenAI's answer, and ours in it. ``ignored``: fields of the request that the backend cannot take."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    citations: list[CitationOut]
    retrieval: list[RetrievedOut]
    ignored: list[str] | None = None


class PersonaIn(BaseModel):
    """A card to store: facts, or a character card V2 as other programs export it (``spec``, ``data``)."""

    name: Annotated[str, StringConstraints(strip_whitespace=True, max_length=200)] = ""
    facts: Facts | None = None
    spec: Literal["chara_card_v2"] | None = None
    data: dict | None = None


class PersonaOut(BaseModel):
    """A stored card."""

    id: str
    name: str
    facts: list[str]


class PersonaList(BaseModel):
    """All cards of a key."""

    data: list[PersonaOut]


class TurnOut(BaseModel):
    """A message of a stored conversation; a reply has its citations, and what was retrieved for it."""

    role: Literal["user", "assistant"]
    content: str
    citations: list[CitationOut] = []
    retrieval: list[RetrievedOut] = []


class ConversationOut(BaseModel):
    """A stored conversation: the card that it began with, and its turns."""

    id: str
    persona: str | None
    facts: list[str]
    turns: list[TurnOut]


class ConversationItem(BaseModel):
    """A stored conversation in a list."""

    id: str
    persona: str | None
    turns: int


class ConversationList(BaseModel):
    """All conversations of a key, the newest first."""

    data: list[ConversationItem]


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class Error(BaseModel):
    """An error in OpenAI's form."""

    error: ErrorDetail
